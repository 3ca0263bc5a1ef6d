package dev.satchel

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.CharBuffer
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
        val missing = (INFO..GRAPHEMES).filterNot { it in places || it == CANONICAL }
        if (missing.isNotEmpty()) throw Tokenizer.damaged("sections $missing", "none")
    }

    fun has(kind: Int): Boolean = kind in places

    fun bytes(kind: Int): ByteBuffer {
        val place = places.getValue(kind)
        return part(data, place.first, place.last + 1)
    }

    fun ints(kind: Int): IntBuffer = bytes(kind).asIntBuffer()

    /** The texts that steps name by number. */
    fun texts(): List<String> {
        val section = bytes(TEXTS)
        val count = section.getInt(0)
        val blob = 4 * (count + 2)
        return List(count) { index ->
            val start = section.getInt(4 + 4 * index)
            val end = section.getInt(8 + 4 * index)
            part(section, blob + start, blob + end).toArray().decodeToString()
        }
    }

    companion object {
        private const val MAGIC = "SATCHTOK"
        private const val VERSION = 3
        private const val HEADER = 16
        private const val ENTRY = 12

        const val INFO = 1
        const val MODEL = 2
        const val NORMALIZER = 3
        const val PRE_TOKENIZER = 4
        const val DECODER = 5
        const val TEXTS = 6
        const val AUTOMATA = 7
        const val CLASS_PAGES = 8
        const val CLASSES = 9
        const val TOKEN_FLAGS = 10
        const val TOKEN_OFFSETS = 11
        const val TOKEN_BYTES = 12
        const val BYTE_IDS = 13
        const val MERGE_ROWS = 14
        const val MERGES = 15
        const val WORDS = 16
        const val ADDED_TOKENS = 17
        const val ADDED_POINTS = 18
        const val START_IDS = 19
        const val CANONICAL = 20
        const val GRAPHEMES = 21
    }
}

/** The class of every code point, in pages of 256, and what the classes are to added tokens. */
internal class CharClasses(
    sections: TokenizerSections,
) {
    private val pageOf: CharArray
    private val pages: ByteArray
    private val bits = sections.bytes(TokenizerSections.CLASSES).toArray()

    init {
        val section = sections.bytes(TokenizerSections.CLASS_PAGES)
        pageOf = part(section, 0, 2 * PAGES).asCharBuffer().toArray()
        pages = part(section, 2 * PAGES, section.limit()).toArray()
    }

    operator fun get(codePoint: Int): Int =
        pages[(pageOf[codePoint ushr 8].code shl 8) or (codePoint and 0xFF)].toInt() and 0xFF

    fun isBlank(codePoint: Int): Boolean = bits[this[codePoint]].toInt() and BLANK != 0

    fun isWord(codePoint: Int): Boolean = bits[this[codePoint]].toInt() and WORD != 0

    private companion object {
        const val PAGES = 0x110000 shr 8
        const val BLANK = 1
        const val WORD = 2
    }
}

internal fun part(table: IntBuffer, start: Int, end: Int): IntBuffer {
    val view = table.duplicate()
    narrow(view, start, end)
    return view.slice()
}

internal fun part(bytes: ByteBuffer, start: Int, end: Int): ByteBuffer {
    val view = bytes.duplicate()
    narrow(view, start, end)
    return view.slice().order(ByteOrder.LITTLE_ENDIAN)
}

/** Takes a plain [Buffer]: the overrides in its subclasses are newer than the Android versions this must run on. */
private fun narrow(view: Buffer, start: Int, end: Int) {
    view.limit(end)
    view.position(start)
}

// In bulk: at the first opening of a process, what goes element by element is interpreted.

internal fun ByteBuffer.toArray(): ByteArray = ByteArray(capacity()).also { duplicate().get(it) }

internal fun CharBuffer.toArray(): CharArray = CharArray(capacity()).also { duplicate().get(it) }

internal fun IntBuffer.toArray(): IntArray = IntArray(capacity()).also { duplicate().get(it) }
