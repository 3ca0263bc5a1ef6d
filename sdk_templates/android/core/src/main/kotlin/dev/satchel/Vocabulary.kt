package dev.satchel

/** The tokens of a `tokenizer.bin`: their bytes, what they are, and which one a piece of text is as a whole. */
internal class Vocabulary(
    sections: TokenizerSections,
    val size: Int,
    private val longestWord: Int,
) {
    private val flags = sections.bytes(TokenizerSections.TOKEN_FLAGS)
    private val offsets = sections.ints(TokenizerSections.TOKEN_OFFSETS)
    private val bytes = sections.bytes(TokenizerSections.TOKEN_BYTES)
    private val words = sections.ints(TokenizerSections.WORDS)
    private val mask = words.capacity() - 1

    fun has(id: Int, flag: Int): Boolean = id in 0 until size && flags[id].toInt() and flag != 0

    fun start(id: Int): Int = offsets[id]

    fun end(id: Int): Int = offsets[id + 1]

    /** The byte at a place between [start] and [end] of an id. */
    fun byteAt(place: Int): Byte = bytes[place]

    /** The token that a piece of these bytes becomes as a whole, or [NO_TOKEN]. */
    fun word(key: ByteArray, length: Int): Int {
        if (length > longestWord) return NO_TOKEN
        var hash = HASH_START
        for (index in 0 until length) {
            hash = (hash xor (key[index].toInt() and 0xFF)) * HASH_FACTOR
        }
        var place = hash and mask
        while (true) {
            val id = words[place]
            if (id == NO_TOKEN || isToken(id, key, length)) return id
            place = (place + 1) and mask
        }
    }

    private fun isToken(id: Int, key: ByteArray, length: Int): Boolean {
        val start = offsets[id]
        if (offsets[id + 1] - start != length) return false
        for (index in 0 until length) {
            if (bytes[start + index] != key[index]) return false
        }
        return true
    }

    companion object {
        const val NO_TOKEN = -1
        const val PRESENT = 1
        const val SPECIAL = 4
        const val BYTE = 8
        private const val HASH_START = 0x811C9DC5.toInt()
        private const val HASH_FACTOR = 0x01000193
    }
}
