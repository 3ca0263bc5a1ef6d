package dev.satchel.host

import java.io.FileDescriptor
import java.io.FileOutputStream
import java.io.PrintStream

/** Standard output for results alone: native code may print, and that goes to standard error from now on. */
internal fun standardOutput(): PrintStream {
    System.setOut(System.err)
    return PrintStream(FileOutputStream(FileDescriptor.out), true, "UTF-8")
}

/** Arguments of the form `VALUE... [--name VALUE]... [--flag]...`. @throws IllegalArgumentException for unknown ones */
internal class CommandLine(
    arguments: Array<String>,
    named: Set<String>,
    flags: Set<String> = emptySet(),
) {
    private val positional = ArrayList<String>()
    private val options = HashMap<String, String>()

    init {
        val rest = arguments.iterator()
        while (rest.hasNext()) {
            val argument = rest.next()
            val name = argument.removePrefix("--")
            when {
                name == argument -> positional += argument
                name in flags -> options[name] = "true"
                name in named && rest.hasNext() -> options[name] = rest.next()
                else -> throw IllegalArgumentException("$argument is unknown or lacks a value; there are $named $flags")
            }
        }
    }

    fun positional(index: Int, name: String): String =
        requireNotNull(positional.getOrNull(index)) { "The argument $name is missing" }

    fun positionalFrom(index: Int): List<String> = positional.drop(index)

    fun flag(name: String): Boolean = name in options

    fun int(name: String): Int? = options[name]?.toInt()

    fun long(name: String): Long? = options[name]?.toLong()

    fun double(name: String): Double? = options[name]?.toDouble()
}
