package dev.satchel

import java.nio.IntBuffer

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

internal fun startsWith(text: IntArray, start: Int, prefix: IntArray): Boolean {
    if (start + prefix.size > text.size) return false
    return prefix.indices.all { text[start + it] == prefix[it] }
}
