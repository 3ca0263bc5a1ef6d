package dev.satchel

/** Text from ids that come one by one; what it shows is what decoding all of them at once gives. */
internal class TextStream(
    private val vocabulary: Vocabulary,
    private val decoder: TokenText,
    private val skipSpecial: Boolean,
) {
    private val text = StringBuilder()

    /** The text that [id] completes, whole characters only. */
    fun add(id: Int): String {
        if (!vocabulary.has(id, Vocabulary.PRESENT)) return ""
        if (skipSpecial && vocabulary.has(id, Vocabulary.SPECIAL)) return ""
        decoder.add(id, text)
        return taken()
    }

    /** The text of what was held back. */
    fun end(): String {
        decoder.end(text)
        return taken()
    }

    private fun taken(): String {
        if (text.isEmpty()) return ""
        val result = text.toString()
        text.setLength(0)
        return result
    }
}

/** What a decoder knows of a text under way. */
internal interface TokenText {
    /** Adds what [id] completes to [text]. */
    fun add(id: Int, text: StringBuilder)

    /** Adds what was held back to [text]. */
    fun end(text: StringBuilder)
}

/** The steps from tokens to text, compiled at export (docs/tokenizer-format.md). */
internal class TextDecoder(
    sections: TokenizerSections,
    private val vocabulary: Vocabulary,
) {
    private val operations = sections.ints(TokenizerSections.DECODER).toArray()
    private val texts = sections.texts()

    init {
        for (step in operations.indices step 3) {
            if (operations[step] !in BYTES..METASPACE) {
                throw Tokenizer.damaged("known decoders", "decoder ${operations[step]}")
            }
        }
    }

    /** A text that has no tokens yet. */
    fun begin(): TokenText {
        if (operations.size == 3 && operations[0] == BYTES) return TextOfBytes(vocabulary)
        val replacements = ArrayList<Pair<String, String>>()
        var ofFirst: Pair<String, String>? = null
        var fallsBack = false
        var strips = ""
        var toStrip = 0
        for (step in operations.indices step 3) {
            val first = operations[step + 1]
            val second = operations[step + 2]
            when (operations[step]) {
                REPLACE -> replacements += texts[first] to texts[second]
                METASPACE -> {
                    replacements += texts[first] to " "
                    ofFirst = texts[first] to if (second != 0) "" else " "
                }
                BYTE_FALLBACK -> fallsBack = true
                STRIP_START -> {
                    strips = texts[first]
                    toStrip = second
                }
            }
        }
        return TextOfTokens(vocabulary, replacements, ofFirst, fallsBack, strips, toStrip)
    }

    private companion object {
        const val BYTES = 1
        const val REPLACE = 2
        const val BYTE_FALLBACK = 3
        const val STRIP_START = 4
        const val METASPACE = 5
    }
}

/** Byte-level: the bytes of all tokens are one UTF-8 text. */
private class TextOfBytes(
    private val vocabulary: Vocabulary,
) : TokenText {
    private val stream = Utf8Stream()

    override fun add(id: Int, text: StringBuilder) {
        for (place in vocabulary.start(id) until vocabulary.end(id)) {
            stream.add(vocabulary.byteAt(place), text)
        }
    }

    override fun end(text: StringBuilder) = stream.end(text)
}

/** Tokens are texts. A run of byte tokens is one UTF-8 text, or, if it is malformed, one U+FFFD for each of them. */
private class TextOfTokens(
    private val vocabulary: Vocabulary,
    private val replacements: List<Pair<String, String>>,
    private var ofFirst: Pair<String, String>?,
    private val fallsBack: Boolean,
    private val strips: String,
    private var toStrip: Int,
) : TokenText {
    private val run = Utf8Bytes()

    override fun add(id: Int, text: StringBuilder) {
        val start = vocabulary.start(id)
        if (fallsBack && vocabulary.has(id, Vocabulary.BYTE)) {
            run.addByte(hexadecimal(start + 3) * 16 + hexadecimal(start + 4)) // <0xHH>
            ofFirst = null
            return
        }
        val shown = text.length
        endRun(text)
        var token = ByteArray(vocabulary.end(id) - start) { vocabulary.byteAt(start + it) }.decodeToString()
        val first = ofFirst
        if (first != null) {
            token = token.replace(first.first, first.second)
            ofFirst = null
        } else {
            for ((old, new) in replacements) token = token.replace(old, new)
        }
        text.append(token)
        strip(text, shown)
    }

    override fun end(text: StringBuilder) {
        val shown = text.length
        endRun(text)
        strip(text, shown)
    }

    private fun hexadecimal(place: Int): Int = Character.digit(vocabulary.byteAt(place).toInt().toChar(), 16)

    private fun endRun(text: StringBuilder) {
        if (run.size == 0) return
        val before = text.length
        val stream = Utf8Stream()
        for (index in 0 until run.size) stream.add(run.items[index], text)
        stream.end(text)
        if (stream.malformed) {
            text.setLength(before)
            repeat(run.size) { text.append('\uFFFD') }
        }
        run.clear()
    }

    private fun strip(text: StringBuilder, from: Int) {
        var end = from
        while (end < text.length && toStrip > 0) {
            if (text.startsWith(strips, end)) {
                end += strips.length
                toStrip--
            } else {
                toStrip = 0
            }
        }
        if (end > from) text.delete(from, end)
    }
}
