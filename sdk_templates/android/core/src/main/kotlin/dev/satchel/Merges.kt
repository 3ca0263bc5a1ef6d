package dev.satchel

import java.nio.IntBuffer

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
    fun apply(symbols: IntArray, ids: IntList) {
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
