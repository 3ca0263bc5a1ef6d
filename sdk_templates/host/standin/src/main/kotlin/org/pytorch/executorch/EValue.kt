package org.pytorch.executorch

/** One input or output of a method: a tensor or a scalar. */
public class EValue private constructor(
    internal val kind: Int,
    private val value: Any?,
) {
    public val isNone: Boolean get() = kind == NONE
    public val isTensor: Boolean get() = kind == TENSOR
    public val isString: Boolean get() = kind == STRING
    public val isDouble: Boolean get() = kind == DOUBLE
    public val isInt: Boolean get() = kind == INT
    public val isBool: Boolean get() = kind == BOOL

    public fun toTensor(): Tensor = take(TENSOR) as Tensor

    public fun toStr(): String = take(STRING) as String

    public fun toDouble(): Double = take(DOUBLE) as Double

    public fun toInt(): Long = take(INT) as Long

    public fun toBool(): Boolean = take(BOOL) as Boolean

    private fun take(wanted: Int): Any? {
        check(kind == wanted) { "This EValue is a ${NAMES[kind]}, not a ${NAMES[wanted]}" }
        return value
    }

    public companion object {
        internal const val NONE = 0
        internal const val TENSOR = 1
        internal const val STRING = 2
        internal const val DOUBLE = 3
        internal const val INT = 4
        internal const val BOOL = 5
        private val NAMES = listOf("None", "Tensor", "String", "Double", "Int", "Bool")

        @JvmStatic
        public fun optionalNone(): EValue = EValue(NONE, null)

        @JvmStatic
        public fun from(tensor: Tensor): EValue = EValue(TENSOR, tensor)

        @JvmStatic
        public fun from(value: String): EValue = EValue(STRING, value)

        @JvmStatic
        public fun from(value: Double): EValue = EValue(DOUBLE, value)

        @JvmStatic
        public fun from(value: Long): EValue = EValue(INT, value)

        @JvmStatic
        public fun from(value: Boolean): EValue = EValue(BOOL, value)
    }
}
