package dev.satchel

import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.IntBuffer
import java.nio.channels.FileChannel
import java.nio.file.StandardOpenOption

/**
 * Text to token ids and back, from a bundle's `tokenizer.bin` (docs/tokenizer-format.md). The arrays are used as they
 * lie in the file; nothing here asks the platform about Unicode. Safe to use from several threads.
 */
internal class Tokenizer(
    data: ByteBuffer,
) {
    private val sections = TokenizerSections(data)

    /** Number of ids. */
    val vocabSize: Int

    private val flags = sections.bytes(TokenizerSections.TOKEN_FLAGS)
    private val offsets = sections.ints(TokenizerSections.TOKEN_OFFSETS)
    private val tokenBytes = sections.bytes(TokenizerSections.TOKEN_BYTES)
    private val byteIds = sections.ints(TokenizerSections.BYTE_IDS).toArray()
    private val merges: Merges
    private val preTokenizer: PreTokenizer
    private val firstPass: AddedTokens
    private val secondPass: AddedTokens

    init {
        val model = sections.ints(TokenizerSections.MODEL)
        if (model[0] != BYTE_BPE || model[1] != BYTES_DECODER) {
            throw damaged("model $BYTE_BPE with decoder $BYTES_DECODER", "model ${model[0]} with decoder ${model[1]}")
        }
        vocabSize = model[2]
        merges = Merges(
            sections.ints(TokenizerSections.MERGE_ROWS),
            sections.ints(TokenizerSections.MERGES),
        )
        val classes = CharClasses(sections)
        preTokenizer = PreTokenizer(sections.ints(TokenizerSections.OPS), classes)
        val added = AddedTokens.read(sections)
        firstPass = AddedTokens(added.filterNot { it.has(AddedTokens.NORMALIZED) }, classes)
        secondPass = AddedTokens(added.filter { it.has(AddedTokens.NORMALIZED) }, classes)
    }

    /**
     * The ids of [text]. With [special] false, special tokens written in the text are ordinary characters: for text of
     * a user. No beginning-of-text id is added.
     */
    fun encode(text: String, special: Boolean): IntArray {
        val ids = IdList()
        firstPass.split(codePoints(text), special, ids::add) { outer ->
            secondPass.split(outer, special, ids::add) { inner ->
                for (piece in preTokenizer.cut(inner)) {
                    encodePiece(piece, ids)
                }
            }
        }
        return ids.toArray()
    }

    /** The bytes that [id] decodes to, not always whole characters; none if there is no such id. */
    fun bytesOf(id: Int): ByteArray {
        if (id !in 0 until vocabSize) return ByteArray(0)
        val start = offsets[id]
        return ByteArray(offsets[id + 1] - start) { tokenBytes[start + it] }
    }

    /** True for ids of special tokens, which are never shown to a user. */
    fun isSpecial(id: Int): Boolean = id in 0 until vocabSize && flags[id].toInt() and SPECIAL_FLAG != 0

    /** The text of [ids]; bytes that are not UTF-8 become U+FFFD. */
    fun decode(ids: IntArray, skipSpecial: Boolean): String {
        val decoder = Utf8Stream()
        val text = StringBuilder()
        for (id in ids) {
            if (!(skipSpecial && isSpecial(id))) text.append(decoder.add(bytesOf(id)))
        }
        return text.append(decoder.end()).toString()
    }

    private fun encodePiece(piece: IntArray, ids: IdList) {
        val symbols = IdList()
        forEachUtf8Byte(piece) { byte ->
            val id = byteIds[byte]
            if (id != NO_TOKEN) symbols.add(id)
        }
        merges.apply(symbols.toArray(), ids)
    }

    companion object {
        const val FILE = "tokenizer.bin"
        private const val BYTE_BPE = 1
        private const val BYTES_DECODER = 1
        private const val SPECIAL_FLAG = 4
        private const val NO_TOKEN = -1

        /** Maps a `tokenizer.bin`. @throws SatchelException.BundleCorrupt if it is none of the known version */
        fun open(file: File): Tokenizer =
            FileChannel.open(file.toPath(), StandardOpenOption.READ).use { channel ->
                Tokenizer(channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()))
            }

        internal fun damaged(expected: String, actual: String) =
            SatchelException.BundleCorrupt(FILE, expected, actual)
    }
}

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

/** Tokens that are matched in the text itself, before anything else: one pass over a text. */
internal class AddedTokens(
    tokens: List<Token>,
    private val classes: CharClasses,
) {
    class Token(
        val id: Int,
        val flags: Int,
        val text: IntArray,
    ) {
        fun has(flag: Int): Boolean = flags and flag != 0
    }

    private val longestFirst: Map<Int, List<Token>> = tokens
        .filter { it.text.isNotEmpty() }
        .sortedByDescending { it.text.size }
        .groupBy { it.text[0] }

    /** Cuts [text] at the tokens in it, calling back with ids of tokens and the text between them, in order. */
    fun split(text: IntArray, special: Boolean, onToken: (Int) -> Unit, onText: (IntArray) -> Unit) {
        var done = 0
        var search = 0
        while (search < text.size) {
            val token = longestFirst[text[search]]?.find { startsWith(text, search, it.text) }
            if (token == null) {
                search++
                continue
            }
            var start = search
            search += token.text.size
            var end = search
            if (token.has(SPECIAL) && !special) continue // its characters stay text
            if (token.has(LEFT_STRIP)) {
                while (start > 0 && classes[text[start - 1]] and CharClasses.STRIP != 0) start--
                start = maxOf(start, done)
            }
            if (token.has(RIGHT_STRIP)) {
                while (end < text.size && classes[text[end]] and CharClasses.STRIP != 0) end++
            }
            if (done < start) onText(text.copyOfRange(done, start))
            onToken(token.id)
            done = end
        }
        if (done < text.size) onText(if (done == 0) text else text.copyOfRange(done, text.size))
    }

    companion object {
        const val SPECIAL = 1
        const val NORMALIZED = 2
        private const val LEFT_STRIP = 4
        private const val RIGHT_STRIP = 8

        fun read(sections: TokenizerSections): List<Token> {
            val records = sections.ints(TokenizerSections.ADDED_TOKENS)
            val texts = sections.bytes(TokenizerSections.ADDED_BYTES)
            return List(records.capacity() / 4) { index ->
                val start = records[4 * index + 2]
                val bytes = ByteArray(records[4 * index + 3]) { texts[start + it] }
                Token(records[4 * index], records[4 * index + 1], codePoints(bytes.decodeToString()))
            }
        }
    }
}

/** Cuts a text into the pieces that byte pairs are merged in. */
internal class PreTokenizer(
    operations: IntBuffer,
    private val classes: CharClasses,
) {
    private val steps: List<(IntArray) -> List<IntArray>> = List(operations.capacity() / 2) { index ->
        val argument = operations[2 * index + 1]
        when (val operation = operations[2 * index]) {
            PREFIX_SPACE -> { piece -> listOf(if (piece.firstOrNull() == BLANK) piece else intArrayOf(BLANK) + piece) }
            DIGITS -> { piece -> splitDigits(piece, argument != 0) }
            SPLIT_GPT2 -> { piece -> splitGpt2(piece) }
            else -> throw Tokenizer.damaged("known pre-tokenizer operations", "operation $operation")
        }
    }

    fun cut(text: IntArray): List<IntArray> = steps.fold(listOf(text)) { pieces, step -> pieces.flatMap(step) }

    /** Runs of digits and runs of everything else; each digit by itself if [individual]. */
    private fun splitDigits(text: IntArray, individual: Boolean): List<IntArray> {
        val pieces = ArrayList<IntArray>()
        var start = 0
        for (index in 1 until text.size) {
            val digit = isDigit(text[index])
            if (digit != isDigit(text[index - 1]) || (individual && digit)) {
                pieces.add(text.copyOfRange(start, index))
                start = index
            }
        }
        pieces.add(text.copyOfRange(start, text.size))
        return pieces
    }

    private fun isDigit(codePoint: Int) = classes[codePoint] and CharClasses.NUMERIC != 0

    /** GPT-2's pattern: contractions, then words, numbers and other runs with one blank before them, then blanks. */
    private fun splitGpt2(text: IntArray): List<IntArray> {
        val pieces = ArrayList<IntArray>()
        var start = 0
        while (start < text.size) {
            var end = contractionEnd(text, start)
            if (end == start) {
                var head = if (text[start] == BLANK && start + 1 < text.size) start + 1 else start
                if (wordClass(text[head]) == CharClasses.SPACE) head = start
                val runClass = wordClass(text[head])
                end = head + 1
                while (end < text.size && wordClass(text[end]) == runClass) end++
                // Blanks leave their last one to the word behind them.
                if (runClass == CharClasses.SPACE && end < text.size && end - start > 1) end--
            }
            pieces.add(text.copyOfRange(start, end))
            start = end
        }
        return pieces
    }

    private fun wordClass(codePoint: Int) = classes[codePoint] and WORD

    private fun contractionEnd(text: IntArray, start: Int): Int {
        if (text[start] != APOSTROPHE) return start
        return start + (CONTRACTIONS.find { startsWith(text, start, it) }?.size ?: 0)
    }

    private companion object {
        const val PREFIX_SPACE = 1
        const val DIGITS = 2
        const val SPLIT_GPT2 = 3
        const val BLANK = ' '.code
        const val APOSTROPHE = '\''.code
        const val WORD = CharClasses.LETTER or CharClasses.NUMBER or CharClasses.SPACE
        val CONTRACTIONS = listOf("'s", "'t", "'re", "'ve", "'m", "'ll", "'d").map(::codePoints)
    }
}

/** Byte pair encoding: always the pair of lowest rank next, the leftmost of equals. */
internal class Merges(
    private val rows: IntBuffer,
    table: IntBuffer,
) {
    private val count = table.capacity() / 3
    private val rights = table
    private val ranks = part(table, count, 2 * count)
    private val results = part(table, 2 * count, 3 * count)

    /** Appends to [ids] what is left of [symbols] when no neighbours have a merge; [symbols] is used up. */
    fun apply(symbols: IntArray, ids: IdList) {
        val size = symbols.size
        val heap = MergeHeap(size)
        for (index in 0 until size - 1) {
            offer(heap, index, symbols[index], symbols[index + 1])
        }
        val before = IntArray(size) { it - 1 }
        val after = IntArray(size) { it + 1 }
        val gone = BooleanArray(size)
        while (heap.pop()) {
            val index = heap.place
            if (gone[index] || after[index] >= size) continue
            val right = after[index]
            val merge = find(symbols[index], symbols[right])
            if (merge < 0 || results[merge] != heap.result) continue // out of date
            symbols[index] = heap.result
            gone[right] = true
            after[index] = after[right]
            if (after[index] < size) {
                before[after[index]] = index
                offer(heap, index, symbols[index], symbols[after[index]])
            }
            if (before[index] >= 0) {
                offer(heap, before[index], symbols[before[index]], symbols[index])
            }
        }
        for (index in 0 until size) {
            if (!gone[index]) ids.add(symbols[index])
        }
    }

    private fun offer(heap: MergeHeap, place: Int, left: Int, right: Int) {
        val merge = find(left, right)
        if (merge >= 0) heap.push(ranks[merge], place, results[merge])
    }

    /** The place of the merge of two ids in the table, or -1: right ids ascend within the row of the left id. */
    private fun find(left: Int, right: Int): Int {
        var low = rows[left]
        var high = rows[left + 1] - 1
        while (low <= high) {
            val middle = (low + high) ushr 1
            val found = rights[middle]
            when {
                found < right -> low = middle + 1
                found > right -> high = middle - 1
                else -> return middle
            }
        }
        return -1
    }
}

/** A binary heap of possible merges, the lowest rank first and of equal ranks the leftmost. */
private class MergeHeap(
    capacity: Int,
) {
    private var keys = LongArray(maxOf(capacity, 4)) // rank above, place below
    private var values = IntArray(keys.size)
    private var size = 0

    /** Place and result of the entry that [pop] took. */
    var place = 0
        private set
    var result = 0
        private set

    fun push(rank: Int, place: Int, result: Int) {
        if (size == keys.size) {
            keys = keys.copyOf(2 * size)
            values = values.copyOf(2 * size)
        }
        val key = (rank.toLong() shl 32) or place.toLong()
        var hole = size++
        while (hole > 0) {
            val parent = (hole - 1) / 2
            if (keys[parent] <= key) break
            keys[hole] = keys[parent]
            values[hole] = values[parent]
            hole = parent
        }
        keys[hole] = key
        values[hole] = result
    }

    /** Takes the first entry; false if there is none. */
    fun pop(): Boolean {
        if (size == 0) return false
        place = keys[0].toInt()
        result = values[0]
        size--
        val key = keys[size]
        val value = values[size]
        var hole = 0
        while (2 * hole + 1 < size) {
            var child = 2 * hole + 1
            if (child + 1 < size && keys[child + 1] < keys[child]) child++
            if (keys[child] >= key) break
            keys[hole] = keys[child]
            values[hole] = values[child]
            hole = child
        }
        keys[hole] = key
        values[hole] = value
        return true
    }
}

/** A growing array of ids. */
internal class IdList {
    private var items = IntArray(16)
    var size: Int = 0
        private set

    fun add(id: Int) {
        if (size == items.size) items = items.copyOf(2 * size)
        items[size++] = id
    }

    fun addAll(ids: IntArray) {
        ids.forEach(::add)
    }

    fun toArray(): IntArray = items.copyOf(size)
}

private fun part(table: IntBuffer, start: Int, end: Int): IntBuffer {
    val view = table.duplicate()
    narrow(view, start, end)
    return view.slice()
}

/** Takes a plain [Buffer]: the overrides in its subclasses are newer than the Android versions this must run on. */
private fun narrow(view: Buffer, start: Int, end: Int) {
    view.limit(end)
    view.position(start)
}

private fun IntBuffer.toArray(): IntArray = IntArray(capacity()) { this[it] }

private fun startsWith(text: IntArray, start: Int, prefix: IntArray): Boolean {
    if (start + prefix.size > text.size) return false
    return prefix.indices.all { text[start + it] == prefix[it] }
}
