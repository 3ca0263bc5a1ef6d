package dev.satchel

/**
 * The model, its bundle or the device can't do what was asked. Subclasses name the cause.
 *
 * Misuse of this library (a closed model, a busy session, a negative limit) is an [IllegalStateException] or
 * [IllegalArgumentException] instead.
 */
public open class SatchelException(
    message: String,
    cause: Throwable? = null,
) : Exception(message, cause) {
    /**
     * A file of the bundle is missing, damaged or not what its manifest says.
     *
     * @property file the file's name inside the bundle
     * @property expected what the manifest or the format asks for
     * @property actual what was found
     */
    public class BundleCorrupt(
        public val file: String,
        public val expected: String,
        public val actual: String,
        cause: Throwable? = null,
    ) : SatchelException("$file of the bundle is damaged: expected $expected, found $actual; install it again", cause)

    /**
     * The prompt does not fit the model's context.
     *
     * @property contextSize what the model can hold, in tokens
     * @property tokenCount what the prompt takes, in tokens
     */
    public class ContextSizeExceeded(
        public val contextSize: Int,
        public val tokenCount: Int,
    ) : SatchelException("The prompt takes $tokenCount tokens and the model's context holds $contextSize; shorten it")

    /**
     * This model can't run on this device or with this version of the library.
     *
     * @property reason what is missing
     */
    public class Unavailable(
        public val reason: UnavailableReason,
        cause: Throwable? = null,
    ) : SatchelException(reason.message, cause)

    /**
     * There is not enough free storage to install the bundle.
     *
     * @property requiredBytes what the bundle takes
     * @property availableBytes what is free
     */
    public class StorageFull(
        public val requiredBytes: Long,
        public val availableBytes: Long,
    ) : SatchelException("The model needs $requiredBytes bytes of storage and $availableBytes are free; free some")

    /**
     * The runtime below the model failed.
     *
     * @property code the runtime's own error number, 0 if it has none
     * @property detail the runtime's own words
     */
    public class RuntimeFailure(
        public val code: Int,
        public val detail: String,
        cause: Throwable? = null,
    ) : SatchelException("The model's runtime failed with code 0x${Integer.toHexString(code)}: $detail", cause)
}
