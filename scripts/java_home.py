"""Print the home of the Java that Satchel uses: JAVA_HOME's, the PATH's, or the Python package's. For make."""

from satchel.tools import Tools

print(Tools().java.home)
