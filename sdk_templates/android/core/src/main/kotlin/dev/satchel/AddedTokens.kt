package dev.satchel

/**
 * Tokens that are matched in the text itself, before anything else: those of the pass over the text as it is, or of the
 * pass over the normalized text. They are sorted by their text in the file, and used as they lie there.
 */
internal class AddedTokens(
    sections: TokenizerSections,
    private val classes: CharClasses,
    normalized: Boolean,
) {
    private val records = sections.ints(TokenizerSections.ADDED_TOKENS)
    private val texts = sections.ints(TokenizerSections.ADDED_POINTS)
    private val first: Int
    private val end: Int
    private val opensAscii = BooleanArray(ASCII)
    private val opensOthers: Boolean

    init {
        val count = records.capacity() / FIELDS
        val boundary = firstNormalized(count)
        first = if (normalized) boundary else 0
        end = if (normalized) count else boundary
        var token = first
        while (token < end && at(token, 0) < ASCII) {
            val opening = at(token, 0)
            opensAscii[opening] = true
            token = firstNotBelow(token, end, 0, opening + 1)
        }
        opensOthers = first < end && at(end - 1, 0) >= ASCII
    }

    private fun id(token: Int): Int = records[FIELDS * token]

    private fun flags(token: Int): Int = records[FIELDS * token + 1]

    private fun length(token: Int): Int = records[FIELDS * token + 3]

    private fun at(token: Int, index: Int): Int = texts[records[FIELDS * token + 2] + index]

    /** Whether the token [id] is one of these and takes the blanks right after it, or right before it. */
    fun takesBlanks(id: Int, after: Boolean): Boolean = (first until end).any { token ->
        id(token) == id && flags(token) and (if (after) RIGHT_STRIP else LEFT_STRIP) != 0
    }

    /**
     * Cuts [text] from [from] to [to] at the tokens in it, calling back with ids of tokens and the ends of the text
     * between them, in order.
     */
    inline fun split(
        text: IntArray,
        from: Int,
        to: Int,
        special: Boolean,
        onToken: (Int) -> Unit,
        onText: (Int, Int) -> Unit,
    ) {
        var done = from
        var search = from
        while (search < to) {
            val token = longestAt(text, search, to)
            if (token < 0) {
                search++
                continue
            }
            var start = search
            search += length(token)
            var end = search
            val flags = flags(token)
            if (flags and SPECIAL != 0 && !special) continue // its characters stay text
            if (flags and SINGLE_WORD != 0 && isInsideWord(text, from, to, start, end)) continue
            if (flags and LEFT_STRIP != 0) {
                while (start > from && classes.isBlank(text[start - 1])) start--
                start = maxOf(start, done)
            }
            if (flags and RIGHT_STRIP != 0) {
                while (end < to && classes.isBlank(text[end])) end++
            }
            if (done < start) onText(done, start)
            onToken(id(token))
            done = end
        }
        if (done < to) onText(done, to)
    }

    /** The longest token that [text] goes on with at [place], or -1: the tokens that fit so far are neighbours. */
    private fun longestAt(text: IntArray, place: Int, to: Int): Int {
        val opening = text[place]
        if (if (opening < ASCII) !opensAscii[opening] else !opensOthers) return -1
        var low = first
        var high = end
        var length = 0
        var longest = -1
        while (low < high) {
            if (length(low) == length) longest = low++
            if (place + length == to) break
            val next = text[place + length]
            low = firstNotBelow(low, high, length, next)
            high = firstNotBelow(low, high, length, next + 1)
            length++
        }
        return longest
    }

    /** Those that are not normalized come first. */
    private fun firstNormalized(count: Int): Int {
        var below = 0
        var above = count
        while (below < above) {
            val middle = (below + above) ushr 1
            if (flags(middle) and NORMALIZED == 0) below = middle + 1 else above = middle
        }
        return below
    }

    /** The first of the tokens from [low] to [high] whose character at [index] is [character] or more. */
    private fun firstNotBelow(low: Int, high: Int, index: Int, character: Int): Int {
        var below = low
        var above = high
        while (below < above) {
            val middle = (below + above) ushr 1
            if (at(middle, index) < character) below = middle + 1 else above = middle
        }
        return below
    }

    private fun isInsideWord(text: IntArray, from: Int, to: Int, start: Int, end: Int): Boolean =
        (start > from && classes.isWord(text[start - 1])) || (end < to && classes.isWord(text[end]))

    companion object {
        private const val ASCII = 128
        private const val FIELDS = 4
        private const val SPECIAL = 1
        private const val NORMALIZED = 2
        private const val LEFT_STRIP = 4
        private const val RIGHT_STRIP = 8
        private const val SINGLE_WORD = 16
    }
}
