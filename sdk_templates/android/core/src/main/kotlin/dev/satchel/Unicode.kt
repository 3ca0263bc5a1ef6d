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

/** Calls [onByte] with each byte, 0 to 255, of the UTF-8 form of [codePoints]. */
internal inline fun forEachUtf8Byte(codePoints: IntArray, onByte: (Int) -> Unit) {
    for (point in codePoints) {
        when {
            point < 0x80 -> onByte(point)
            point < 0x800 -> {
                onByte(0xC0 or (point shr 6))
                onByte(0x80 or (point and 0x3F))
            }
            point < 0x10000 -> {
                onByte(0xE0 or (point shr 12))
                onByte(0x80 or ((point shr 6) and 0x3F))
                onByte(0x80 or (point and 0x3F))
            }
            else -> {
                onByte(0xF0 or (point shr 18))
                onByte(0x80 or ((point shr 12) and 0x3F))
                onByte(0x80 or ((point shr 6) and 0x3F))
                onByte(0x80 or (point and 0x3F))
            }
        }
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

    /** The text that [bytes] complete. */
    fun add(bytes: ByteArray): String {
        val text = StringBuilder()
        for (byte in bytes) accept(byte, text)
        return text.toString()
    }

    /** The text of what was held back; nothing is pending afterwards. */
    fun end(): String {
        val text = if (pendingSize > 0) REPLACEMENT_TEXT else ""
        pendingSize = 0
        return text
    }

    private fun accept(byte: Byte, text: StringBuilder) {
        val value = byte.toInt() and 0xFF
        if (pendingSize > 0 && !continues(value)) {
            text.append(REPLACEMENT_TEXT)
            pendingSize = 0
        }
        if (pendingSize == 0) {
            when {
                value < 0x80 -> text.append(value.toChar())
                followersOf(value) == 0 -> text.append(REPLACEMENT_TEXT)
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
