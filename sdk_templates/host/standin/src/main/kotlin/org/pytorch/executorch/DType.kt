package org.pytorch.executorch

/**
 * Element type of a [Tensor].
 *
 * @property jniCode the runtime's number of the type
 */
public enum class DType(
    @JvmField public val jniCode: Int,
) {
    UINT8(0),
    INT8(1),
    INT16(2),
    INT32(3),
    INT64(4),
    HALF(5),
    FLOAT(6),
    DOUBLE(7),
    BOOL(11),
    ;

    public companion object {
        /** The type with that number. @throws IllegalArgumentException if there is none */
        @JvmStatic
        public fun fromJniCode(jniCode: Int): DType =
            requireNotNull(entries.find { it.jniCode == jniCode }) { "No DType has the number $jniCode" }
    }
}
