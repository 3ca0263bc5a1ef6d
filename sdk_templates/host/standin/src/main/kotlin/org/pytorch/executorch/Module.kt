package org.pytorch.executorch

import java.io.Closeable
import java.io.File
import java.nio.Buffer
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/**
 * Stand-in for the Android runtime's class of this name, over the host's libraries: the same signatures, locking and
 * exceptions, as far as the SDK's engine uses them. Never part of a published library.
 */
public open class Module private constructor(
    path: String,
    loadMode: Int,
    threads: Int,
) : Closeable {
    private val lock = ReentrantLock()
    private var handle = Native.open(path.encodeToByteArray(), loadMode, threads)
    private var lease = Tensor.Lease()
    private val metadata: Map<String, MethodMetadata>

    init {
        if (handle <= 0) {
            // The Android runtime gives every failure to load this one code, and the cause's own in the text.
            throw ExecutorchRuntimeException.makeExecutorchException(
                ExecutorchRuntimeException.INVALID_ARGUMENT,
                "Cannot load $path (native error 0x${java.lang.Long.toHexString(-handle)})",
            )
        }
        metadata = methodNames().associateWith { name ->
            val backends = Native.backends(handle, name.encodeToByteArray())
            MethodMetadata(name, backends.toLines().distinct().toTypedArray())
        }
    }

    /** Runs the method `forward`. */
    public open fun forward(vararg inputs: EValue): Array<EValue> = execute("forward", *inputs)

    /**
     * Runs a method; tensors in the result are views that hold until the next call.
     *
     * @throws IllegalStateException after [destroy]
     * @throws ExecutorchRuntimeException if the runtime refuses the inputs or fails
     */
    public open fun execute(methodName: String, vararg inputs: EValue): Array<EValue> = whileAlive {
        val kinds = IntArray(inputs.size) { inputs[it].kind }
        val scalarTypes = IntArray(inputs.size)
        val shapes = arrayOfNulls<LongArray>(inputs.size)
        val buffers = arrayOfNulls<Buffer>(inputs.size)
        val scalars = LongArray(inputs.size)
        inputs.forEachIndexed { index, input ->
            when (input.kind) {
                EValue.TENSOR -> {
                    val tensor = input.toTensor()
                    scalarTypes[index] = tensor.dtype().jniCode
                    shapes[index] = tensor.shape()
                    buffers[index] = tensor.getRawDataBuffer()
                }
                EValue.INT -> scalars[index] = input.toInt()
                EValue.BOOL -> scalars[index] = if (input.toBool()) 1 else 0
                EValue.DOUBLE -> scalars[index] = input.toDouble().toRawBits()
                else -> throw ExecutorchRuntimeException.makeExecutorchException(
                    ExecutorchRuntimeException.INVALID_ARGUMENT,
                    "Input $index is neither a tensor nor a number",
                )
            }
        }
        lease.valid = false
        val error =
            Native.execute(handle, methodName.encodeToByteArray(), kinds, scalarTypes, shapes, buffers, scalars)
        throwUnlessZero(error, "Execution failed for method: $methodName")
        lease = Tensor.Lease()
        Array(Native.outputCount(handle)) { index -> output(index) }
    }

    /** Prepares a method, so that its first run is as fast as the others. */
    public open fun loadMethod(methodName: String): Unit = whileAlive {
        throwUnlessZero(
            Native.loadMethod(handle, methodName.encodeToByteArray()),
            "Failed to load method: $methodName",
        )
    }

    /** The names of the program's methods. */
    public open fun getMethods(): Array<String> = whileAlive { methodNames().toTypedArray() }

    /** @throws IllegalArgumentException if the program has no such method */
    public open fun getMethodMetadata(name: String): MethodMetadata = whileAlive {
        requireNotNull(metadata[name]) { "method $name does not exist for this module" }
    }

    /** What the runtime logged lately. */
    public open fun readLogBuffer(): Array<String>? = whileAlive { Native.log().toLines().toTypedArray() }

    /** Frees the program. Idempotent. @throws IllegalStateException while a method executes */
    public open fun destroy() {
        check(lock.tryLock()) { "Cannot destroy module while method is executing" }
        try {
            if (handle > 0) {
                lease.valid = false
                Native.close(handle)
                handle = 0
            }
        } finally {
            lock.unlock()
        }
    }

    override fun close(): Unit = destroy()

    private inline fun <T> whileAlive(body: () -> T): T = lock.withLock {
        check(handle > 0) { "Module has been destroyed" }
        body()
    }

    private fun throwUnlessZero(error: Int, message: String) {
        if (error != 0) throw ExecutorchRuntimeException.makeExecutorchException(error, message)
    }

    private fun methodNames() = Native.methods(handle).toLines()

    private fun ByteArray?.toLines(): List<String> = this?.decodeToString().orEmpty().lines().filter(String::isNotEmpty)

    private fun output(index: Int): EValue {
        val info = checkNotNull(Native.outputInfo(handle, index)) { "Output $index cannot be read" }
        return when (info[0].toInt()) {
            EValue.TENSOR -> {
                val data = checkNotNull(Native.outputBuffer(handle, index)) { "Output $index has no data" }
                EValue.from(Tensor.ofOutput(data, info[1].toInt(), info.copyOfRange(3, info.size), lease))
            }
            EValue.DOUBLE -> EValue.from(Double.fromBits(info[2]))
            EValue.INT -> EValue.from(info[2])
            EValue.BOOL -> EValue.from(info[2] != 0L)
            else -> EValue.optionalNone()
        }
    }

    public companion object {
        public const val LOAD_MODE_FILE: Int = 0
        public const val LOAD_MODE_MMAP: Int = 1
        public const val LOAD_MODE_MMAP_USE_MLOCK: Int = 2
        public const val LOAD_MODE_MMAP_USE_MLOCK_IGNORE_ERRORS: Int = 3

        /**
         * Opens a program. [numThreads] is the size of the process's thread pool, 0 for half of the cores.
         *
         * @throws IllegalArgumentException if there is no such readable file
         * @throws ExecutorchRuntimeException if it is no program that this runtime can load
         */
        @JvmStatic
        @JvmOverloads
        public fun load(modelPath: String?, loadMode: Int = LOAD_MODE_FILE, numThreads: Int = 0): Module {
            requireNotNull(modelPath) { "Cannot load model path: path is null" }
            require(File(modelPath).isFile) { "Cannot load model path: path is not a file: $modelPath" }
            require(File(modelPath).canRead()) { "Cannot load model path: path is not readable: $modelPath" }
            return Module(modelPath, loadMode, numThreads)
        }
    }
}
