package org.pytorch.executorch

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.LongBuffer

/**
 * A tensor over a direct buffer in native byte order: float32 and int64, the types a language model's program has.
 *
 * An output is a view of the runtime's memory. On a device it silently goes bad at the next call on its [Module]; here
 * it throws, so that a test finds the mistake.
 */
public abstract class Tensor internal constructor(
    shape: LongArray,
    private val lease: Lease,
) {
    private val sizes = shape.copyOf()

    internal abstract val buffer: Buffer

    /** Number of elements. */
    public fun numel(): Long = numel(sizes)

    /** A copy of the shape. */
    public fun shape(): LongArray = sizes.copyOf()

    public abstract fun dtype(): DType

    /** The data itself, not copied. */
    public open fun getRawDataBuffer(): Buffer = alive(buffer)

    public open val dataAsFloatArray: FloatArray get() = unsupported("float array")

    public open val dataAsLongArray: LongArray get() = unsupported("long array")

    public open fun copyDataInto(dst: FloatBuffer): Unit = unsupported("FloatBuffer")

    public open fun copyDataInto(dst: LongBuffer): Unit = unsupported("LongBuffer")

    internal fun <T> alive(value: T): T {
        check(lease.valid) { "This output tensor is stale: its module ran again or was closed" }
        return value
    }

    private fun unsupported(target: String): Nothing = error("A tensor of type ${dtype()} has no data for a $target")

    /** Whether the memory behind the outputs of one call is still theirs. */
    internal class Lease {
        @Volatile
        var valid: Boolean = true
    }

    internal class Float32(
        override val buffer: FloatBuffer,
        shape: LongArray,
        lease: Lease,
    ) : Tensor(shape, lease) {
        override fun dtype(): DType = DType.FLOAT

        override val dataAsFloatArray: FloatArray
            get() = alive(buffer).let { data -> FloatArray(data.rewind().remaining()).also { data.get(it) } }

        override fun copyDataInto(dst: FloatBuffer) {
            dst.put(alive(buffer).apply { rewind() })
        }
    }

    internal class Int64(
        override val buffer: LongBuffer,
        shape: LongArray,
        lease: Lease,
    ) : Tensor(shape, lease) {
        override fun dtype(): DType = DType.INT64

        override val dataAsLongArray: LongArray
            get() = alive(buffer).let { data -> LongArray(data.rewind().remaining()).also { data.get(it) } }

        override fun copyDataInto(dst: LongBuffer) {
            dst.put(alive(buffer).apply { rewind() })
        }
    }

    internal class Other(
        override val buffer: ByteBuffer,
        private val type: DType,
        shape: LongArray,
        lease: Lease,
    ) : Tensor(shape, lease) {
        override fun dtype(): DType = type
    }

    public companion object {
        @JvmStatic
        public fun allocateFloatBuffer(numElements: Int): FloatBuffer = allocate(numElements, 4).asFloatBuffer()

        @JvmStatic
        public fun allocateLongBuffer(numElements: Int): LongBuffer = allocate(numElements, 8).asLongBuffer()

        /** Wraps a copy of [data]. */
        @JvmStatic
        public fun fromBlob(data: FloatArray, shape: LongArray): Tensor =
            fromBlob(allocateFloatBuffer(data.size).put(data), shape)

        /** Wraps a copy of [data]. */
        @JvmStatic
        public fun fromBlob(data: LongArray, shape: LongArray): Tensor =
            fromBlob(allocateLongBuffer(data.size).put(data), shape)

        /** Wraps [data] itself. @throws IllegalArgumentException if it is not direct, native and of the shape's size */
        @JvmStatic
        public fun fromBlob(data: FloatBuffer, shape: LongArray): Tensor {
            requireUsable(data, data.order(), shape)
            return Float32(data, shape, Lease())
        }

        /** Wraps [data] itself. @throws IllegalArgumentException if it is not direct, native and of the shape's size */
        @JvmStatic
        public fun fromBlob(data: LongBuffer, shape: LongArray): Tensor {
            requireUsable(data, data.order(), shape)
            return Int64(data, shape, Lease())
        }

        /** Number of elements of a shape. */
        @JvmStatic
        public fun numel(shape: LongArray): Long {
            require(shape.all { it >= 0 }) { "A shape has no negative sizes: ${shape.contentToString()}" }
            return shape.fold(1L) { product, size -> product * size }
        }

        internal fun ofOutput(data: ByteBuffer, scalarType: Int, shape: LongArray, lease: Lease): Tensor {
            data.order(ByteOrder.nativeOrder())
            return when (val type = DType.fromJniCode(scalarType)) {
                DType.FLOAT -> Float32(data.asFloatBuffer(), shape, lease)
                DType.INT64 -> Int64(data.asLongBuffer(), shape, lease)
                else -> Other(data, type, shape, lease)
            }
        }

        private fun allocate(elements: Int, bytes: Int): ByteBuffer =
            ByteBuffer.allocateDirect(elements * bytes).order(ByteOrder.nativeOrder())

        private fun requireUsable(data: Buffer, order: ByteOrder, shape: LongArray) {
            require(numel(shape) == data.capacity().toLong()) {
                "A buffer of ${data.capacity()} elements does not fit the shape ${shape.contentToString()}"
            }
            require(data.isDirect) { "A tensor's buffer must be direct" }
            require(order == ByteOrder.nativeOrder()) { "A tensor's buffer must have native byte order" }
        }
    }
}
