package dev.satchel

/**
 * Parts of a text: code points from `start(i)` until `end(i)` of [points], none of them empty.
 *
 * @property atStart nothing of the text lies before the first piece
 */
internal class Pieces(
    var points: IntArray,
    start: Int,
    end: Int,
    var atStart: Boolean,
) {
    private var bounds = IntList().apply {
        if (start < end) {
            add(start)
            add(end)
        }
    }

    val count: Int get() = bounds.size / 2

    fun start(index: Int): Int = bounds[2 * index]

    fun end(index: Int): Int = bounds[2 * index + 1]

    /** Cuts every piece anew. [cut] gets start and end of a piece and adds pairs of them to the list. */
    inline fun recut(cut: (Int, Int, IntList) -> Unit) {
        val before = bounds
        val after = IntList(before.size)
        for (index in 0 until before.size step 2) {
            cut(before[index], before[index + 1], after)
        }
        bounds = after
        if (after.size == 0 || before[0] != after[0]) atStart = false
    }

    /** Writes every piece anew: [write] gets start and end of a piece and adds its new code points to the list. */
    inline fun rewrite(write: (Int, Int, IntList) -> Unit) {
        val before = bounds
        val text = IntList(if (before.size == 0) 0 else before[before.size - 1] - before[0] + 16)
        val after = IntList(before.size)
        for (index in 0 until before.size step 2) {
            val start = text.size
            write(before[index], before[index + 1], text)
            if (text.size > start) {
                after.add(start)
                after.add(text.size)
            }
        }
        points = text.toArray()
        bounds = after
    }
}

/** A growing array of numbers. */
internal class IntList(
    capacity: Int = 16,
) {
    private var items = IntArray(maxOf(capacity, 4))
    var size: Int = 0
        private set

    operator fun get(index: Int): Int = items[index]

    operator fun set(index: Int, value: Int) {
        items[index] = value
    }

    fun add(value: Int) {
        if (size == items.size) items = items.copyOf(2 * size)
        items[size++] = value
    }

    fun addAll(values: IntArray, from: Int = 0, to: Int = values.size) {
        val needed = size + to - from
        if (needed > items.size) items = items.copyOf(maxOf(needed, 2 * size))
        values.copyInto(items, size, from, to)
        size = needed
    }

    fun clear() {
        size = 0
    }

    fun toArray(): IntArray = items.copyOf(size)
}
