package dev.satchel

/** Passes text on until one of [strings] is complete in it; what may become one is held back (docs/streaming.md). */
internal class StopStrings(
    private val strings: List<String>,
) {
    private val held = StringBuilder()

    /** A stop string is complete: nothing comes after it. */
    var found = false
        private set

    /** What can be shown now. */
    fun push(text: String): String {
        if (found || text.isEmpty()) return ""
        if (strings.isEmpty()) return text
        held.append(text)
        val end = strings.minOf { string -> held.indexOf(string).let { if (it < 0) held.length else it } }
        found = end < held.length
        return take(if (found) end else held.length - strings.maxOf(::begun)).also { if (found) held.setLength(0) }
    }

    /** What was held back and has not become a stop string. */
    fun finish(): String = take(held.length)

    private fun take(length: Int): String {
        if (length == 0) return ""
        return held.substring(0, length).also { held.delete(0, length) }
    }

    /** Length of the longest end of the held text that is a beginning of [string]. */
    private fun begun(string: String): Int {
        for (length in minOf(held.length, string.length - 1) downTo 1) {
            if ((0 until length).all { held[held.length - length + it] == string[it] }) return length
        }
        return 0
    }
}
