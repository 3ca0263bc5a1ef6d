package dev.satchel

/** Token ids as a list that holds numbers, not objects. */
internal class Ids(
    private val values: IntArray,
) : AbstractList<Int>(),
    RandomAccess {
    override val size: Int get() = values.size

    override fun get(index: Int): Int = values[index]

    /** Ids that come one by one. */
    class Buffer {
        private var values = IntArray(FIRST_CAPACITY)
        private var size = 0

        fun add(id: Int) {
            if (size == values.size) values = values.copyOf(2 * size)
            values[size++] = id
        }

        /** Everything since the last call. */
        fun take(): List<Int> = Ids(values.copyOf(size)).also { size = 0 }
    }

    private companion object {
        const val FIRST_CAPACITY = 16
    }
}
