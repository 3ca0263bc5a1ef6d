package dev.satchel.litert

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import dev.satchel.InternalSatchelApi
import dev.satchel.SatchelException
import dev.satchel.TokenEngine
import dev.satchel.TokenEngineFactory
import dev.satchel.UnavailableReason
import java.io.File

/** Opens LiteRT programs (`.tflite`). Found by [java.util.ServiceLoader]. */
public class LiteRtEngineFactory : TokenEngineFactory {
    override val backend: String get() = "litert"

    // What this library's POM depends on (a test compares them).
    override val runtimeVersion: String get() = "2.2.0"

    /** @param threads number of threads, 0 for half of the cores: LiteRT by itself would take one */
    override fun open(program: File, threads: Int): TokenEngine = translated {
        val signatures = readSignatures(program)
        val model = OpenModel(program, if (threads > 0) threads else halfOfTheCores())
        try {
            LiteRtEngine(model, signatures)
        } catch (e: Throwable) {
            model.close()
            throw e
        }
    }
}

private const val DECODE = "decode"
private const val PREFILL = "prefill"
private const val TOKENS = "tokens"
private const val POSITIONS = "input_pos"
private const val MASK = "mask"
private const val LOGITS = "logits"
private const val CACHE = "kv_cache"

/** Added to the scores of keys that a query must not see. */
private const val HIDDEN = -1e4f

/**
 * A program with the signatures `decode` and `prefill_<chunk>`, which take `tokens int32 [1, n]`, `input_pos int32 [n]`,
 * `mask float32 [1, 1, n, context]` and the memory of earlier tokens as `kv_cache_*`, and give that memory back;
 * `decode` also gives `logits float32 [1, 1, vocabulary]`.
 *
 * The same buffers are passed as the memory that goes in and comes out, so nothing of it is ever copied. Prefill takes
 * whole chunks and gives no logits: a shorter one is padded, and the last token of every call goes through `decode`.
 */
internal class LiteRtEngine(
    private val model: OpenModel,
    signatures: List<Signature>,
) : TokenEngine {
    private val logits: TensorBuffer
    private val decode: Step
    private val prefill: Step

    override val vocabSize: Int
    override val contextLength: Int
    override val prefillChunk: Int get() = prefill.size

    private var closed = false

    init {
        val decodes = signatures.firstOrNull { it.name == DECODE } ?: throw lacks(DECODE)
        val prefills = signatures.firstOrNull { it.name.startsWith(PREFILL) } ?: throw lacks(PREFILL)
        val caches = decodes.inputs.filterKeys { it.startsWith(CACHE) }.mapValues { (name, shape) ->
            // What is hidden counts nothing, but only if it is a number: fresh memory may hold anything.
            model.input(name, DECODE).also { it.writeFloat(FloatArray(shape.fold(1, Int::times))) }
        }
        logits = model.output(LOGITS, DECODE)
        decode = Step(model, decodes, caches, mapOf(LOGITS to logits))
        prefill = Step(model, prefills, caches, emptyMap())
        vocabSize = decodes.outputs[LOGITS]?.lastOrNull() ?: throw lacks(LOGITS)
        contextLength = decode.context
    }

    override fun forward(tokens: IntArray, position: Int): FloatArray {
        check(!closed) { "This engine is closed" }
        TokenEngine.requireInRange(this, tokens, position)
        return translated {
            val last = tokens.size - 1
            if (last > 0 && position + prefill.size <= contextLength) {
                prefill.run(tokens, 0, last, position)
            } else { // padding would reach past the context
                for (index in 0 until last) decode.run(tokens, index, 1, position + index)
            }
            decode.run(tokens, last, 1, position + last)
            val row = logits.readFloat()
            if (row.size != vocabSize) {
                throw SatchelException.RuntimeFailure(0, "the program gave ${row.size} logits, not $vocabSize")
            }
            row
        }
    }

    override fun close() {
        if (closed) return
        closed = true
        model.close()
    }
}

/** One signature, with its input arrays and buffers kept from call to call. */
private class Step(
    private val model: OpenModel,
    private val signature: Signature,
    caches: Map<String, TensorBuffer>,
    outputs: Map<String, TensorBuffer>,
) {
    /** Tokens of one run. */
    val size: Int = shape(TOKENS).last()

    /** Most positions that a token can look back at. */
    val context: Int = shape(MASK).last()

    private val tokens = IntArray(size)
    private val positions = IntArray(size)
    private val mask = FloatArray(size * context)
    private val tokensBuffer = model.input(TOKENS, signature.name)
    private val positionsBuffer = model.input(POSITIONS, signature.name)
    private val maskBuffer = model.input(MASK, signature.name)
    private val inputs =
        mapOf(TOKENS to tokensBuffer, POSITIONS to positionsBuffer, MASK to maskBuffer) + caches
    private val outputs = caches + outputs

    /**
     * Feeds [count] of [ids] from index [first] on; the first of them is at [position].
     *
     * What the padding writes into the memory is overwritten before any token may look at it.
     */
    fun run(ids: IntArray, first: Int, count: Int, position: Int) {
        ids.copyInto(tokens, 0, first, first + count)
        tokens.fill(0, count, size)
        for (row in 0 until size) {
            positions[row] = position + row
            val start = row * context
            val seen = start + position + row + 1
            mask.fill(0f, start, seen)
            mask.fill(HIDDEN, seen, start + context)
        }
        tokensBuffer.writeInt(tokens)
        positionsBuffer.writeInt(positions)
        maskBuffer.writeFloat(mask)
        model.run(inputs, outputs, signature.name)
    }

    private fun shape(input: String) =
        signature.inputs[input]?.takeIf { it.isNotEmpty() } ?: throw lacks("${signature.name}'s input $input")
}

/** A compiled model with every buffer that was made for it: closed together, the buffers first. */
internal class OpenModel(
    program: File,
    threads: Int,
) : AutoCloseable {
    private val compiled = CompiledModel.create(
        program.path,
        CompiledModel.Options(Accelerator.CPU).apply {
            cpuOptions = CompiledModel.CpuOptions(threads, null, null)
        },
        null,
    )
    private val buffers = ArrayList<TensorBuffer>()

    fun input(name: String, signature: String): TensorBuffer =
        compiled.createInputBuffer(name, signature).also(buffers::add)

    fun output(name: String, signature: String): TensorBuffer =
        compiled.createOutputBuffer(name, signature).also(buffers::add)

    fun run(inputs: Map<String, TensorBuffer>, outputs: Map<String, TensorBuffer>, signature: String): Unit =
        compiled.run(inputs, outputs, signature)

    override fun close() {
        buffers.forEach(TensorBuffer::close)
        compiled.close()
    }
}

private fun halfOfTheCores() = maxOf(1, Runtime.getRuntime().availableProcessors() / 2)

private fun lacks(what: String) = SatchelException.RuntimeFailure(0, "the program has no $what")

/** Runs [body], turning the runtime's exceptions into this library's. LiteRT keeps its status codes to itself. */
@OptIn(InternalSatchelApi::class)
private inline fun <T> translated(body: () -> T): T = try {
    body()
} catch (e: LiteRtException) {
    throw SatchelException.RuntimeFailure(0, e.message.orEmpty(), e)
} catch (e: IndexOutOfBoundsException) {
    throw SatchelException.RuntimeFailure(0, "this is no LiteRT program", e)
} catch (e: LinkageError) { // no native code for this device, or an app that was built without the runtime
    throw SatchelException.Unavailable(UnavailableReason.RuntimeMissing(e.toString()), e)
}
