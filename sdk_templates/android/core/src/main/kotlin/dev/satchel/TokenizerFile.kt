package dev.satchel

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.IntBuffer

/** The directory of a `tokenizer.bin`: little endian sections, each at a multiple of 8. */
internal class TokenizerSections(
    data: ByteBuffer,
) {
    private val data = data.duplicate().order(ByteOrder.LITTLE_ENDIAN)
    private val places = HashMap<Int, IntRange>()

    init {
        val size = this.data.limit()
        if (size < HEADER || ByteArray(MAGIC.length) { data[it] }.decodeToString() != MAGIC) {
            throw Tokenizer.damaged("a file that starts with $MAGIC", "$size bytes that don't")
        }
        val version = this.data.getInt(8)
        if (version != VERSION) throw Tokenizer.damaged("format version $VERSION", "$version")
        val count = this.data.getInt(12)
        if (count < 0 || count > (size - HEADER) / ENTRY) throw Tokenizer.damaged("a whole directory", "$size bytes")
        for (index in 0 until count) {
            val entry = HEADER + index * ENTRY
            val offset = this.data.getInt(entry + 4)
            val length = this.data.getInt(entry + 8)
            if (offset < 0 || length < 0 || offset > size - length) {
                throw Tokenizer.damaged("$offset + $length bytes", "$size bytes")
            }
            places[this.data.getInt(entry)] = offset until offset + length
        }
        val missing = (INFO..ADDED_BYTES).filterNot(places::containsKey)
        if (missing.isNotEmpty()) throw Tokenizer.damaged("sections $missing", "none")
    }

    fun bytes(kind: Int): ByteBuffer {
        val place = places.getValue(kind)
        val view = data.duplicate()
        narrow(view, place.first, place.last + 1)
        return view.slice().order(ByteOrder.LITTLE_ENDIAN)
    }

    fun ints(kind: Int): IntBuffer = bytes(kind).asIntBuffer()

    companion object {
        private const val MAGIC = "SATCHTOK"
        private const val VERSION = 1
        private const val HEADER = 16
        private const val ENTRY = 12

        const val INFO = 1
        const val MODEL = 2
        const val OPS = 3
        const val CLASSES = 4
        const val TOKEN_FLAGS = 5
        const val TOKEN_OFFSETS = 6
        const val TOKEN_BYTES = 7
        const val BYTE_IDS = 8
        const val MERGE_ROWS = 9
        const val MERGES = 10
        const val ADDED_TOKENS = 11
        const val ADDED_BYTES = 12
    }
}

/** What a code point is to the pre-tokenizer: runs of equal class bits over all code points. */
internal class CharClasses(
    sections: TokenizerSections,
) {
    private val starts: IntArray
    private val bits: ByteArray
    private val ascii: ByteArray

    init {
        val section = sections.bytes(TokenizerSections.CLASSES)
        val count = section.getInt(0)
        starts = IntArray(count) { section.getInt(4 + 4 * it) }
        bits = ByteArray(count) { section[4 + 4 * count + it] }
        ascii = ByteArray(ASCII) { find(it).toByte() }
    }

    operator fun get(codePoint: Int): Int = if (codePoint < ASCII) ascii[codePoint].toInt() else find(codePoint)

    private fun find(codePoint: Int): Int {
        val place = starts.binarySearch(codePoint)
        return bits[if (place >= 0) place else -place - 2].toInt()
    }

    companion object {
        const val LETTER = 1
        const val NUMBER = 2
        const val SPACE = 4
        const val NUMERIC = 8
        const val STRIP = 16
        private const val ASCII = 128
    }
}

internal fun part(table: IntBuffer, start: Int, end: Int): IntBuffer {
    val view = table.duplicate()
    narrow(view, start, end)
    return view.slice()
}

/** Takes a plain [Buffer]: the overrides in its subclasses are newer than the Android versions this must run on. */
private fun narrow(view: Buffer, start: Int, end: Int) {
    view.limit(end)
    view.position(start)
}

internal fun IntBuffer.toArray(): IntArray = IntArray(capacity()) { this[it] }
