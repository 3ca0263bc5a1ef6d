package org.pytorch.executorch

/**
 * The runtime refused or failed.
 *
 * @property errorCode the runtime's own number
 */
public open class ExecutorchRuntimeException(
    public val errorCode: Int,
    details: String?,
) : RuntimeException("[ExecuTorch Error 0x${Integer.toHexString(errorCode)}] ${details ?: "no details"}") {
    /** What the runtime logged lately. */
    public fun getDetailedError(): String = Native.logText()

    /** An argument, or a program, of the wrong form. */
    public class ExecutorchInvalidArgumentException(
        details: String?,
    ) : ExecutorchRuntimeException(INVALID_ARGUMENT, details)

    public companion object {
        public const val OK: Int = 0x00
        public const val INTERNAL: Int = 0x01
        public const val INVALID_STATE: Int = 0x02
        public const val NOT_SUPPORTED: Int = 0x10
        public const val INVALID_ARGUMENT: Int = 0x12
        public const val OPERATOR_MISSING: Int = 0x14
        public const val NOT_FOUND: Int = 0x20
        public const val MEMORY_ALLOCATION_FAILED: Int = 0x21
        public const val ACCESS_FAILED: Int = 0x22
        public const val INVALID_PROGRAM: Int = 0x23

        private const val LOG_TAIL = 2048

        /** The exception for an error code, with the end of the native log in its message. */
        @JvmStatic
        public fun makeExecutorchException(errorCode: Int, details: String?): RuntimeException {
            val log = Native.logText().trim().takeLast(LOG_TAIL)
            val message = if (log.isEmpty()) details else "$details; native log: $log"
            return when (errorCode) {
                INVALID_ARGUMENT -> ExecutorchInvalidArgumentException(message)
                else -> ExecutorchRuntimeException(errorCode, message)
            }
        }
    }
}
