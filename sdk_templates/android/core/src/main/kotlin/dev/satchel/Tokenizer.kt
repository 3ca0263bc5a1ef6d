package dev.satchel

import java.io.File
import java.nio.ByteBuffer
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

    private val byBytes: Boolean
    private val unknown: Int
    private val fusesUnknown: Boolean
    private val fallsBack: Boolean
    private val vocabulary: Vocabulary
    private val byteIds = sections.ints(TokenizerSections.BYTE_IDS).toArray()
    private val startIds = sections.ints(TokenizerSections.START_IDS).toArray()
    private val merges = Merges(
        sections.ints(TokenizerSections.MERGE_ROWS),
        sections.ints(TokenizerSections.MERGES),
    )
    private val classes: CharClasses
    private val firstPass: AddedTokens
    private val normalizer: TextSteps
    private val secondPass: AddedTokens
    private val preTokenizer: TextSteps
    private val decoder: TextDecoder
    private val graphemeBreaks = GraphemeBreaks(sections)

    init {
        val model = sections.ints(TokenizerSections.MODEL).toArray()
        if (model.size < 5 || model[0] !in BYTES..CHARACTERS || model[3] !in 0..(FUSE_UNKNOWN or BYTE_FALLBACK)) {
            throw damaged("a known model", "model ${model.toList()}")
        }
        byBytes = model[0] == BYTES
        vocabSize = model[1]
        unknown = model[2]
        fusesUnknown = model[3] and FUSE_UNKNOWN != 0
        fallsBack = model[3] and BYTE_FALLBACK != 0
        vocabulary = Vocabulary(sections, vocabSize, longestWord = model[4])
        classes = CharClasses(sections)
        val automata = Automaton.read(sections, classes)
        firstPass = AddedTokens(sections, classes, normalized = false)
        val texts = sections.texts().map(::codePoints)
        val canonical = if (sections.has(TokenizerSections.CANONICAL)) Canonical(sections) else null
        normalizer = TextSteps(sections, TokenizerSections.NORMALIZER, classes, automata, texts, canonical)
        secondPass = AddedTokens(sections, classes, normalized = true)
        preTokenizer = TextSteps(sections, TokenizerSections.PRE_TOKENIZER, classes, automata, texts, canonical)
        decoder = TextDecoder(sections, vocabulary)
    }

    /**
     * The ids of [text]. With [special] false, special tokens written in the text are ordinary characters: for text of
     * a user. Nothing is put before the ids. [atStart] says that nothing stands before the text; some tokenizers put a
     * blank before the first word of all.
     */
    fun encode(text: String, special: Boolean, atStart: Boolean = true): IntArray {
        val ids = IntList(text.length / 4 + 16)
        val scratch = Scratch()
        val points = codePoints(text)
        firstPass.split(points, 0, points.size, special, ids::add) { start, end ->
            val normalized = Pieces(points, start, end, atStart && start == 0)
            normalizer.run(normalized)
            for (piece in 0 until normalized.count) {
                encodeNormalized(normalized, piece, special, ids, scratch)
            }
        }
        return ids.toArray()
    }

    /**
     * The ids of a raw prompt: special tokens in it count, and what opens every text is put before it, unless the prompt
     * opens with that itself.
     */
    fun encodeRaw(text: String): IntArray {
        val ids = encode(text, special = true)
        val opened = ids.size >= startIds.size && startIds.indices.all { ids[it] == startIds[it] }
        return if (opened) ids else startIds + ids
    }

    /** [text] without the blanks that the tokens right [before] and right [after] it take. */
    fun withoutTakenBlanks(text: String, before: Int?, after: Int?): String {
        val isTaken = { character: Char -> classes.isBlank(character.code) }
        val left = if (before != null && takesBlanks(before, after = true)) text.trimStart(isTaken) else text
        return if (after != null && takesBlanks(after, after = false)) left.trimEnd(isTaken) else left
    }

    /** True for ids of special tokens, which are never shown to a user. */
    fun isSpecial(id: Int): Boolean = vocabulary.has(id, Vocabulary.SPECIAL)

    /** The text of [ids]; bytes that are not UTF-8 become U+FFFD. */
    fun decode(ids: IntArray, skipSpecial: Boolean): String {
        val stream = TextStream(vocabulary, decoder.begin(), skipSpecial)
        val text = StringBuilder()
        for (id in ids) text.append(stream.add(id))
        return text.append(stream.end()).toString()
    }

    /** A text whose ids come one by one, special tokens left out. */
    fun newStream(): TextStream = TextStream(vocabulary, decoder.begin(), skipSpecial = true)

    /** A text that comes in pieces and is to be shown in whole grapheme clusters. */
    fun newGraphemes(): WholeGraphemes = WholeGraphemes(graphemeBreaks)

    private fun takesBlanks(id: Int, after: Boolean): Boolean =
        firstPass.takesBlanks(id, after) || secondPass.takesBlanks(id, after)

    private fun encodeNormalized(normalized: Pieces, piece: Int, special: Boolean, ids: IntList, scratch: Scratch) {
        val points = normalized.points
        val first = normalized.start(piece)
        val isFirst = normalized.atStart && piece == 0
        secondPass.split(points, first, normalized.end(piece), special, ids::add) { start, end ->
            val pieces = Pieces(points, start, end, isFirst && start == first)
            preTokenizer.run(pieces)
            for (index in 0 until pieces.count) {
                encodePiece(pieces.points, pieces.start(index), pieces.end(index), ids, scratch)
            }
        }
    }

    private fun encodePiece(points: IntArray, start: Int, end: Int, ids: IntList, scratch: Scratch) {
        val key = scratch.key
        key.clear()
        for (index in start until end) key.add(points[index])
        val word = vocabulary.word(key.items, key.size)
        if (word != Vocabulary.NO_TOKEN) {
            ids.add(word)
            return
        }
        val symbols = scratch.symbols
        symbols.clear()
        scratch.unknownBefore = false
        if (byBytes) {
            for (index in 0 until key.size) addSymbol(byteIds[key.items[index].toInt() and 0xFF], scratch)
        } else {
            for (index in start until end) addCharacter(points[index], scratch)
        }
        merges.apply(symbols.toArray(), ids)
    }

    /** Adds the token of a character, or else the tokens of its bytes. */
    private fun addCharacter(codePoint: Int, scratch: Scratch) {
        val key = scratch.key
        key.clear()
        key.add(codePoint)
        val token = vocabulary.word(key.items, key.size)
        if (token == Vocabulary.NO_TOKEN && fallsBack) {
            for (index in 0 until key.size) addSymbol(byteIds[key.items[index].toInt() and 0xFF], scratch)
        } else {
            addSymbol(token, scratch)
        }
    }

    /** What has no token becomes the unknown token, several in a row one if they are fused, or is dropped. */
    private fun addSymbol(token: Int, scratch: Scratch) {
        val isUnknown = token == Vocabulary.NO_TOKEN
        when {
            !isUnknown -> scratch.symbols.add(token)
            unknown == Vocabulary.NO_TOKEN || (fusesUnknown && scratch.unknownBefore) -> Unit
            else -> scratch.symbols.add(unknown)
        }
        scratch.unknownBefore = isUnknown
    }

    /** What one call of [encode] works with. */
    private class Scratch {
        val key = Utf8Bytes()
        val symbols = IntList()
        var unknownBefore = false
    }

    companion object {
        const val FILE = "tokenizer.bin"
        private const val BYTES = 1
        private const val CHARACTERS = 2
        private const val FUSE_UNKNOWN = 1
        private const val BYTE_FALLBACK = 2

        /** Maps a `tokenizer.bin`. @throws SatchelException.BundleCorrupt if it is none of the known version */
        fun open(file: File): Tokenizer =
            FileChannel.open(file.toPath(), StandardOpenOption.READ).use { channel ->
                Tokenizer(channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()))
            }

        internal fun damaged(expected: String, actual: String) =
            SatchelException.BundleCorrupt(FILE, expected, actual)
    }
}
