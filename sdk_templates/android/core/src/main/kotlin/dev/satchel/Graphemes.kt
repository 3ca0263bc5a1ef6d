package dev.satchel

/** Where extended grapheme clusters begin (Unicode Standard Annex #29), by the tables of `tokenizer.bin`. */
internal class GraphemeBreaks(
    sections: TokenizerSections,
) {
    private val numbers = sections.ints(TokenizerSections.GRAPHEMES).toArray()
    private val classes = numbers[1]
    private val firstRun = numbers.size - numbers[2]

    /** 2 * the state behind [codePoint], + 1 if a cluster begins at it. The state at the start of a text is 0. */
    fun step(state: Int, codePoint: Int): Int = numbers[HEADER + state * classes + classOf(codePoint)]

    private fun classOf(codePoint: Int): Int {
        val behind = -1 - numbers.binarySearch((codePoint shl 8) or 0xFF, firstRun) // no class is 255: it is not found
        return numbers[behind - 1] and 0xFF
    }

    private companion object {
        const val HEADER = 3
    }
}

/** Holds each text back until the next one shows that nothing more joins its last cluster (docs/streaming.md). */
internal class WholeGraphemes(
    private val breaks: GraphemeBreaks,
) {
    private val held = StringBuilder()
    private var state = 0
    private var last = 0 // where the last cluster begins in what is held

    /** What can be shown now: all that was held if [text] begins a cluster, else all before the one that it joins. */
    fun push(text: String): String {
        if (text.isEmpty()) return ""
        val start = held.length
        held.append(text)
        var certain = last
        var place = start
        while (place < held.length) {
            val point = held.codePointAt(place)
            val step = breaks.step(state, point)
            state = step shr 1
            if (step and 1 != 0) {
                last = place
                if (place == start) certain = start
            }
            place += Character.charCount(point)
        }
        return take(certain)
    }

    /** What was held back. */
    fun finish(): String = take(held.length)

    private fun take(length: Int): String {
        if (length == 0) return ""
        last -= length
        return held.substring(0, length).also { held.delete(0, length) }
    }
}
