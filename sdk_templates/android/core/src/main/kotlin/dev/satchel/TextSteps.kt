package dev.satchel

/** The steps of a normalizer or a pre-tokenizer, compiled at export (docs/tokenizer-format.md). */
internal class TextSteps(
    sections: TokenizerSections,
    section: Int,
    private val classes: CharClasses,
    private val automata: List<Automaton>,
    private val texts: List<IntArray>,
    private val canonical: Canonical?,
) {
    private val operations = sections.ints(section).toArray()

    init {
        for (step in operations.indices step 3) {
            val operation = operations[step]
            if (operation !in NFC..SPLIT || (operation == NFC && canonical == null)) {
                throw Tokenizer.damaged("known operations", "operation $operation")
            }
        }
    }

    /** Applies all steps to [pieces]. */
    fun run(pieces: Pieces) {
        for (step in operations.indices step 3) {
            val first = operations[step + 1]
            val second = operations[step + 2]
            when (operations[step]) {
                NFC -> compose(pieces, canonical!!)
                REPLACE -> replace(pieces, automata[first], texts[second])
                PREPEND -> prepend(pieces, texts[first], second)
                TRIM -> trim(pieces, first)
                SPLIT -> automata[first].split(pieces, second and 0xFF, inverted = second >= INVERTED)
            }
        }
    }

    private fun compose(pieces: Pieces, canonical: Canonical) {
        val points = pieces.points
        if ((0 until pieces.count).all { canonical.isComposed(points, pieces.start(it), pieces.end(it)) }) return
        pieces.rewrite { start, end, text -> canonical.compose(pieces.points, start, end, text) }
    }

    private fun replace(pieces: Pieces, automaton: Automaton, content: IntArray) {
        pieces.rewrite { start, end, text ->
            automaton.forEachMatch(pieces.points, start, end) { from, to, matched ->
                if (matched) text.addAll(content) else text.addAll(pieces.points, from, to)
            }
        }
    }

    private fun prepend(pieces: Pieces, content: IntArray, mode: Int) {
        var mayPrepend = mode != UNLESS_THERE_AT_START || pieces.atStart
        pieces.rewrite { start, end, text ->
            if (mayPrepend && (mode == ALL || !startsWith(pieces.points, start, end, content))) text.addAll(content)
            text.addAll(pieces.points, start, end)
            if (mode == UNLESS_THERE_AT_START) mayPrepend = false
        }
    }

    private fun trim(pieces: Pieces, ends: Int) {
        val points = pieces.points
        pieces.recut { start, end, bounds ->
            var from = start
            var to = end
            while (ends and LEFT != 0 && from < to && classes.isBlank(points[from])) from++
            while (ends and RIGHT != 0 && from < to && classes.isBlank(points[to - 1])) to--
            if (from < to) {
                bounds.add(from)
                bounds.add(to)
            }
        }
    }

    private fun startsWith(text: IntArray, start: Int, end: Int, prefix: IntArray): Boolean =
        end - start >= prefix.size && prefix.indices.all { text[start + it] == prefix[it] }

    private companion object {
        const val NFC = 1
        const val REPLACE = 2
        const val PREPEND = 3
        const val TRIM = 4
        const val SPLIT = 5
        const val ALL = 0
        const val UNLESS_THERE_AT_START = 2
        const val LEFT = 1
        const val RIGHT = 2
        const val INVERTED = 0x100
    }
}

/** A pattern as a table over character classes: finds the leftmost match, of those there the one the pattern prefers. */
internal class Automaton private constructor(
    private val columns: Int,
    private val table: CharArray, // unsigned 16 bits: 2 * next state, + 1 if a match ends before this character
    private val classes: CharClasses,
) {
    /** Calls back with all of [text] from [start] to [end] in order: matches, and what lies between them. */
    inline fun forEachMatch(text: IntArray, start: Int, end: Int, onPart: (Int, Int, Boolean) -> Unit) {
        var done = start
        var place = start
        while (place < end) {
            val matchEnd = matchEnd(text, place, end)
            if (matchEnd == place) {
                place++
                continue
            }
            if (done < place) onPart(done, place, false)
            onPart(place, matchEnd, true)
            done = matchEnd
            place = matchEnd
        }
        if (done < end) onPart(done, end, false)
    }

    /** Where the match that starts at [start] ends; [start] if there is none. */
    private fun matchEnd(text: IntArray, start: Int, end: Int): Int {
        var state = START
        var place = start
        var matchEnd = start
        while (true) {
            val column = if (place < end) classes[text[place]] else columns - 1
            val entry = table[state * columns + column].code
            if (entry and 1 != 0) matchEnd = place
            state = entry shr 1
            if (state == DEAD) return matchEnd
            place++
        }
    }

    /** Cuts [pieces] at what is found, or with [inverted] at what is not. */
    fun split(pieces: Pieces, behaviour: Int, inverted: Boolean) {
        if (behaviour !in ISOLATED..CONTIGUOUS) throw Tokenizer.damaged("known behaviours", "behaviour $behaviour")
        val points = pieces.points
        pieces.recut { start, end, bounds ->
            val firstOfPiece = bounds.size
            var before = false
            forEachMatch(points, start, end) { from, to, matched ->
                val found = matched != inverted
                val joins = when (behaviour) {
                    MERGED_WITH_PREVIOUS -> found && !before
                    MERGED_WITH_NEXT -> before && !found
                    CONTIGUOUS -> found == before
                    else -> false
                }
                if (joins && bounds.size > firstOfPiece) {
                    bounds[bounds.size - 1] = to
                } else if (!(behaviour == REMOVED && found)) {
                    bounds.add(from)
                    bounds.add(to)
                }
                before = found
            }
        }
    }

    companion object {
        private const val DEAD = 0
        private const val START = 1
        private const val ISOLATED = 0
        private const val REMOVED = 1
        private const val MERGED_WITH_PREVIOUS = 2
        private const val MERGED_WITH_NEXT = 3
        private const val CONTIGUOUS = 4

        /** All automata of the file; steps name them by number. */
        fun read(sections: TokenizerSections, classes: CharClasses): List<Automaton> {
            val section = sections.bytes(TokenizerSections.AUTOMATA)
            val count = section.getInt(0)
            val columns = section.getInt(4)
            val tables = 4 * (count + 2)
            return List(count) { index ->
                val start = tables + 2 * section.getInt(4 * (index + 2))
                val end = if (index + 1 < count) tables + 2 * section.getInt(4 * (index + 3)) else section.limit()
                Automaton(columns, part(section, start, end).asCharBuffer().toArray(), classes)
            }
        }
    }
}
