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
