package dev.satchel

private const val REPLACEMENT = 0xFFFD
private const val REPLACEMENT_TEXT = "\uFFFD"

/** The code points of [text]; an unpaired surrogate counts as U+FFFD. */
internal fun codePoints(text: String): IntArray {
    val points = IntArray(text.length)
    var count = 0
    var index = 0
    while (index < text.length) {
        val unit = text[index++]
        points[count++] = when {
            !unit.isSurrogate() -> unit.code
            unit.isHighSurrogate() && index < text.length && text[index].isLowSurrogate() ->
                Character.toCodePoint(unit, text[index++])
            else -> REPLACEMENT
        }
    }
    return points.copyOf(count)
}

/** A growing array of UTF-8 bytes. */
internal class Utf8Bytes {
    var items = ByteArray(64)
        private set
    var size: Int = 0
        private set

    fun clear() {
        size = 0
    }

    fun addByte(value: Int) {
        if (size == items.size) items = items.copyOf(2 * items.size)
        items[size++] = value.toByte()
    }

    fun add(codePoint: Int) {
        if (size + 4 > items.size) items = items.copyOf(2 * items.size)
        if (codePoint < 0x80) {
            items[size++] = codePoint.toByte()
            return
        }
        if (codePoint < 0x800) {
            items[size++] = (0xC0 or (codePoint shr 6)).toByte()
        } else {
            if (codePoint < 0x10000) {
                items[size++] = (0xE0 or (codePoint shr 12)).toByte()
            } else {
                items[size++] = (0xF0 or (codePoint shr 18)).toByte()
                items[size++] = (0x80 or ((codePoint shr 12) and 0x3F)).toByte()
            }
            items[size++] = (0x80 or ((codePoint shr 6) and 0x3F)).toByte()
        }
        items[size++] = (0x80 or (codePoint and 0x3F)).toByte()
    }
}

/**
 * Reads UTF-8 that comes in parts: gives whole characters only and holds the start of an unfinished one back.
 *
 * Bytes that are not UTF-8 become U+FFFD, one for each maximal subpart (docs/tokenizer-format.md has the table).
 * Platform decoders differ in the number of replacement characters, so none is used.
 */
internal class Utf8Stream {
    private val pending = ByteArray(4)
    private var pendingSize = 0

    /** Whether anything was not UTF-8 so far. */
    var malformed: Boolean = false
        private set

    /** Adds what [byte] completes to [text]. */
    fun add(byte: Byte, text: StringBuilder) {
        val value = byte.toInt() and 0xFF
        if (pendingSize > 0 && !continues(value)) replace(text)
        if (pendingSize == 0) {
            when {
                value < 0x80 -> text.append(value.toChar())
                followersOf(value) == 0 -> replace(text)
                else -> pending[pendingSize++] = byte
            }
            return
        }
        pending[pendingSize++] = byte
        if (pendingSize > followersOf(pending[0].toInt() and 0xFF)) {
            text.append(pending.decodeToString(0, pendingSize)) // valid by now: every decoder agrees
            pendingSize = 0
        }
    }

    /** Adds what was held back to [text]; nothing is pending afterwards. */
    fun end(text: StringBuilder) {
        if (pendingSize > 0) replace(text)
    }

    private fun replace(text: StringBuilder) {
        text.append(REPLACEMENT_TEXT)
        pendingSize = 0
        malformed = true
    }

    /** Number of bytes that follow the first byte of a longer character; 0 if none starts with it. */
    private fun followersOf(first: Int): Int = when (first) {
        in 0xC2..0xDF -> 1
        in 0xE0..0xEF -> 2
        in 0xF0..0xF4 -> 3
        else -> 0
    }

    private fun continues(value: Int): Boolean {
        if (pendingSize > 1) return value in 0x80..0xBF
        return when (pending[0].toInt() and 0xFF) {
            0xE0 -> value in 0xA0..0xBF
            0xED -> value in 0x80..0x9F
            0xF0 -> value in 0x90..0xBF
            0xF4 -> value in 0x80..0x8F
            else -> value in 0x80..0xBF
        }
    }
}
