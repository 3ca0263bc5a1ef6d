package dev.satchel.executorch

import dev.satchel.InternalSatchelApi
import dev.satchel.SatchelException
import dev.satchel.TokenEngine
import dev.satchel.TokenEngineFactory
import dev.satchel.UnavailableReason
import org.pytorch.executorch.EValue
import org.pytorch.executorch.ExecutorchRuntimeException
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import java.io.File
import java.nio.FloatBuffer
import java.nio.LongBuffer

/** Opens ExecuTorch programs (`.pte`). Found by [java.util.ServiceLoader]. */
public class ExecuTorchEngineFactory : TokenEngineFactory {
    override val backend: String get() = "executorch"

    // What this library's POM depends on (a test compares them), and what that runtime has native code for.
    override val runtimeVersion: String get() = "1.5.0"
    override val abis: Set<String> get() = setOf("arm64-v8a", "x86_64")

    override fun open(program: File, threads: Int): TokenEngine = translated {
        val module = Module.load(program.path, Module.LOAD_MODE_MMAP, threads)
        try {
            module.loadMethod(FORWARD)
            ExecuTorchEngine(module)
        } catch (e: Throwable) {
            module.close()
            throw e
        }
    }
}

private const val FORWARD = "forward"

/**
 * A program with the method `forward(tokens int64 [1, n], start int64 [1]) -> logits float32 [1, 1, vocabulary]`, whose
 * memory of earlier tokens is inside.
 *
 * The runtime does not check token ids (one out of range can end the process), so they are checked here.
 */
internal class ExecuTorchEngine(
    private val module: Module,
) : TokenEngine {
    override val vocabSize: Int = constant("get_vocab_size")
    override val contextLength: Int = constant("get_max_context_len")
    override val prefillChunk: Int = constant("get_max_seq_len")

    private val logits = FloatArray(vocabSize)
    private val start = Tensor.allocateLongBuffer(1)
    private val startInput = EValue.from(Tensor.fromBlob(start, longArrayOf(1)))

    // One token is by far the most frequent input, so its tensor is kept.
    private val single = Tensor.allocateLongBuffer(1)
    private val singleInput = tokensInput(single, 1)
    private var closed = false

    override fun forward(tokens: IntArray, position: Int): FloatArray {
        check(!closed) { "This engine is closed" }
        TokenEngine.requireInRange(this, tokens, position)
        start.put(0, position.toLong())
        val input = if (tokens.size == 1) singleInput.also { single.put(0, tokens[0].toLong()) } else several(tokens)
        return translated {
            val output = module.forward(input, startInput)[0].toTensor()
            if (output.numel() != vocabSize.toLong()) {
                throw SatchelException.RuntimeFailure(0, "the program gave ${output.numel()} logits, not $vocabSize")
            }
            output.copyDataInto(FloatBuffer.wrap(logits))
            logits
        }
    }

    override fun close() {
        closed = true
        module.close()
    }

    private fun several(tokens: IntArray): EValue {
        val buffer = Tensor.allocateLongBuffer(tokens.size)
        for (index in tokens.indices) buffer.put(index, tokens[index].toLong())
        return tokensInput(buffer, tokens.size)
    }

    private fun tokensInput(buffer: LongBuffer, count: Int) =
        EValue.from(Tensor.fromBlob(buffer, longArrayOf(1, count.toLong())))

    private fun constant(method: String): Int {
        val value = module.execute(method)[0].toInt()
        if (value !in 1..Int.MAX_VALUE) {
            throw SatchelException.RuntimeFailure(0, "the program says that $method is $value")
        }
        return value.toInt()
    }
}

/** Runs [body], turning the runtime's exceptions into this library's. */
@OptIn(InternalSatchelApi::class)
private inline fun <T> translated(body: () -> T): T = try {
    body()
} catch (e: ExecutorchRuntimeException) {
    throw SatchelException.RuntimeFailure(e.errorCode, e.message.orEmpty(), e)
} catch (e: LinkageError) { // no native code for this device, or an app that was built without the runtime
    throw SatchelException.Unavailable(UnavailableReason.RuntimeMissing(e.toString()), e)
}
