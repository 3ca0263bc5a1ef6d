"""Where a program's behaviour is measured: one module per target, in one literal dict."""

from collections.abc import Callable, Mapping

from satchel.validate.expected import Expected
from satchel.validate.measured import Behaviour
from satchel.validate.proofs import Program
from satchel.validate.targets import host, jvm
from satchel.workshop import Workshop

Measure = Callable[
    [Program, Expected, Mapping[str, float], Callable[[int, int], None], Workshop], Behaviour
]  # program, what the reference expects, limits of the gates, progress(done, total), workshop

TARGETS: Mapping[str, Measure] = {"host": host.measure, "jvm": jvm.measure}
