package dev.satchel

/**
 * Canonical composition (NFC) by the tables of the tokenizer: the platform's own follows another Unicode version, on
 * Android that of the phone.
 */
internal class Canonical(
    sections: TokenizerSections,
) {
    private val numbers = sections.ints(TokenizerSections.CANONICAL).toArray()
    private val decomposed: Int = HEADER // places of the tables in numbers
    private val offsets: Int
    private val parts: Int
    private val marks: Int
    private val markClasses: Int
    private val firsts: Int
    private val seconds: Int
    private val results: Int
    private val changeable: BooleanArray // by pages of 256 code points: some of the page are in a table

    init {
        val points = numbers[0]
        val markCount = numbers[1]
        val pairs = numbers[2]
        offsets = decomposed + points
        parts = offsets + points + 1
        marks = parts + numbers[parts - 1]
        markClasses = marks + markCount
        firsts = markClasses + markCount
        seconds = firsts + pairs
        results = seconds + pairs
        changeable = BooleanArray(0x110000 shr 8)
        for (index in decomposed until offsets) changeable[numbers[index] shr 8] = true
        for (index in marks until markClasses) changeable[numbers[index] shr 8] = true
        for (index in seconds until results) changeable[numbers[index] shr 8] = true
        for (jamo in LEAD_BASE..TRAIL_BASE + TRAIL_COUNT) changeable[jamo shr 8] = true
    }

    /** True if nothing in [text] from [start] until [end] can need composing. */
    fun isComposed(text: IntArray, start: Int, end: Int): Boolean {
        for (index in start until end) {
            if (text[index] >= FIRST_MARK && changeable[text[index] shr 8]) return false
        }
        return true
    }

    /** Adds the composed form of [text] from [start] until [end] to [result]. */
    fun compose(text: IntArray, start: Int, end: Int, result: IntList) {
        val points = IntList(end - start + 16)
        for (index in start until end) decompose(text[index], points)
        val classes = IntArray(points.size) { combiningClass(points[it]) }
        sortMarks(points, classes)
        val first = result.size
        var starter = -1
        var last = 0 // class of what was added last
        for (index in 0 until points.size) {
            val point = points[index]
            val combining = classes[index]
            if (starter >= first && (starter == result.size - 1 || last < combining)) {
                val joined = pair(result[starter], point)
                if (joined >= 0) {
                    result[starter] = joined
                    continue
                }
            }
            if (combining == 0) starter = result.size
            last = combining
            result.add(point)
        }
    }

    private fun decompose(point: Int, points: IntList) {
        val syllable = point - HANGUL_BASE
        if (syllable in 0 until HANGUL_COUNT) {
            points.add(LEAD_BASE + syllable / (VOWEL_COUNT * TRAIL_COUNT))
            points.add(VOWEL_BASE + syllable / TRAIL_COUNT % VOWEL_COUNT)
            if (syllable % TRAIL_COUNT != 0) points.add(TRAIL_BASE + syllable % TRAIL_COUNT)
            return
        }
        val place = if (point < FIRST_DECOMPOSED) -1 else find(decomposed, offsets, point)
        if (place < 0) {
            points.add(point)
        } else {
            val entry = offsets + place - decomposed
            points.addAll(numbers, parts + numbers[entry], parts + numbers[entry + 1])
        }
    }

    private fun combiningClass(point: Int): Int {
        val place = if (point < FIRST_MARK) -1 else find(marks, markClasses, point)
        return if (place < 0) 0 else numbers[markClasses + place - marks]
    }

    /** Each run of marks by their class, equal ones in their order; a run is as long as a user makes it. */
    private fun sortMarks(points: IntList, classes: IntArray) {
        var start = 0
        while (start < points.size) {
            if (classes[start] == 0) {
                start++
                continue
            }
            var end = start
            while (end < points.size && classes[end] != 0) end++
            if ((start + 1 until end).any { classes[it - 1] > classes[it] }) {
                val run = IntArray(end - start) { points[start + it] }
                val order = LongArray(run.size) { classes[start + it].toLong() shl 32 or it.toLong() }
                order.sort()
                for (index in order.indices) {
                    points[start + index] = run[order[index].toInt()]
                    classes[start + index] = (order[index] shr 32).toInt()
                }
            }
            start = end
        }
    }

    /** The character that two make together, or -1. */
    private fun pair(first: Int, second: Int): Int {
        val lead = first - LEAD_BASE
        val vowel = second - VOWEL_BASE
        if (lead in 0 until LEAD_COUNT && vowel in 0 until VOWEL_COUNT) {
            return HANGUL_BASE + (lead * VOWEL_COUNT + vowel) * TRAIL_COUNT
        }
        val syllable = first - HANGUL_BASE
        val trail = second - TRAIL_BASE
        if (syllable in 0 until HANGUL_COUNT && syllable % TRAIL_COUNT == 0 && trail in 1 until TRAIL_COUNT) {
            return first + trail
        }
        var low = firsts
        var high = seconds - 1
        while (low <= high) {
            val middle = (low + high) ushr 1
            val byFirst = numbers[middle].compareTo(first)
            val order = if (byFirst != 0) byFirst else numbers[middle + seconds - firsts].compareTo(second)
            when {
                order < 0 -> low = middle + 1
                order > 0 -> high = middle - 1
                else -> return numbers[middle + results - firsts]
            }
        }
        return -1
    }

    /** The place of [point] in the ascending numbers from [from] until [to], or -1. */
    private fun find(from: Int, to: Int, point: Int): Int {
        val place = numbers.binarySearch(point, from, to)
        return if (place < 0) -1 else place
    }

    private companion object {
        const val HEADER = 3
        const val FIRST_DECOMPOSED = 0xC0
        const val FIRST_MARK = 0x300
        const val HANGUL_BASE = 0xAC00
        const val HANGUL_COUNT = 11172
        const val LEAD_BASE = 0x1100
        const val LEAD_COUNT = 19
        const val VOWEL_BASE = 0x1161
        const val VOWEL_COUNT = 21
        const val TRAIL_BASE = 0x11A7
        const val TRAIL_COUNT = 28
    }
}
