package dev.satchel

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.isActive
import kotlinx.coroutines.withContext
import java.io.File
import kotlin.random.Random
import kotlin.time.Duration
import kotlin.time.DurationUnit
import kotlin.time.TimeSource

/**
 * A language model that is loaded into memory. Close it when it is no longer needed.
 *
 * All functions may be called from any thread, also the main one. Generations of one model run one after another.
 *
 * ```
 * SatchelModel.load(context).use { model ->
 *     model.newSession(instructions = "Be brief.").streamResponse("Capital of France?").collect { print(it.text) }
 * }
 * ```
 */
public class SatchelModel internal constructor(
    private val manifest: Manifest,
    internal val tokenizer: Tokenizer,
    internal val prompt: PromptProgram?,
    engine: TokenEngine,
) : AutoCloseable {
    private val engine = EngineThread(engine)

    /** The model's name, such as `smollm2-135m-instruct`. */
    public val id: String get() = manifest.modelId

    /** Most tokens that prompt and answer can have together. */
    public val contextLength: Int get() = manifest.contextLength

    /**
     * Starts a conversation.
     *
     * @param instructions what the model is told before the first turn; null for the model's own default
     * @throws IllegalStateException if this model takes raw prompts only, see [generate]
     */
    public fun newSession(instructions: String? = null): ChatSession {
        val program = prompt
        check(program != null && program.isChat) { "This model has no chat template: use generate with a raw prompt" }
        return ChatSession(this, program, instructions)
    }

    /**
     * Continues [prompt] as it stands, without the model's chat template; special tokens written in it count as such.
     *
     * Nothing runs until the flow is collected; each collection generates anew. Cancelling the collector stops after
     * the step that runs.
     *
     * While it is collected, the flow throws [IllegalArgumentException] if the prompt is empty, [IllegalStateException]
     * if the model is closed, [SatchelException.ContextSizeExceeded] if the prompt does not fit and
     * [SatchelException.RuntimeFailure] if the runtime fails.
     */
    public fun generate(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<TextChunk> =
        generate(options) { tokenizer.encode(prompt, special = true) }

    /**
     * Collects [generate] into one chunk with the whole text.
     *
     * @throws IllegalArgumentException if the prompt is empty
     * @throws IllegalStateException if the model is closed
     * @throws SatchelException.ContextSizeExceeded if the prompt does not fit
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public suspend fun respond(prompt: String, options: GenerateOptions = GenerateOptions()): TextChunk =
        generate(prompt, options).joined()

    /** Lets the running step end, then frees the model's memory. Idempotent; generations that still run fail. */
    override fun close() {
        engine.close()
    }

    /** Continues the prompt whose ids [encode] gives, on a thread of its own choice. */
    internal fun generate(options: GenerateOptions, encode: () -> IntArray): Flow<TextChunk> = flow {
        val prompt = withContext(Dispatchers.Default) { encode() }
        require(prompt.isNotEmpty()) { "The prompt is empty: it needs at least one token" }
        if (prompt.size > contextLength) throw SatchelException.ContextSizeExceeded(contextLength, prompt.size)
        engine.exclusively {
            val maxNewTokens = options.maxNewTokens ?: manifest.defaultMaxNewTokens
            val sampler = Sampler(
                options.temperature ?: manifest.defaultTemperature,
                options.seed ?: Random.nextLong(),
            )
            val stream = Utf8Stream()
            val unsent = ArrayList<Int>()
            val start = TimeSource.Monotonic.markNow()
            var token = prefill(prompt, sampler)
            val timeToFirstToken = start.elapsedNow()
            var position = prompt.size
            var generated = 0
            val reason: FinishReason
            while (true) {
                if (token in manifest.stopIds) {
                    reason = FinishReason.STOP
                    break
                }
                generated++
                unsent.add(token)
                val text = if (tokenizer.isSpecial(token)) "" else stream.add(tokenizer.bytesOf(token))
                if (text.isNotEmpty()) {
                    emit(TextChunk(text, unsent.toList(), null, null))
                    unsent.clear()
                }
                if (generated == maxNewTokens) {
                    reason = FinishReason.LENGTH
                    break
                }
                if (position == contextLength) {
                    reason = FinishReason.CONTEXT_FULL
                    break
                }
                val tokens = intArrayOf(token)
                token = engine.step { sampler.sample(it.forward(tokens, position)) }
                position++
            }
            val decoded = position - prompt.size
            val stats = GenerationStats(
                promptTokens = prompt.size,
                generatedTokens = generated,
                timeToFirstToken = timeToFirstToken,
                prefillTokensPerSecond = rate(prompt.size, timeToFirstToken),
                decodeTokensPerSecond = if (decoded > 0) rate(decoded, start.elapsedNow() - timeToFirstToken) else null,
            )
            emit(TextChunk(stream.end(), unsent, reason, stats))
        }
    }

    /** Feeds the prompt chunk by chunk, so that cancelling never waits long, and draws the first token. */
    private suspend fun prefill(prompt: IntArray, sampler: Sampler): Int {
        var token = -1
        for (start in prompt.indices step manifest.prefillChunk) {
            val end = minOf(start + manifest.prefillChunk, prompt.size)
            val tokens = prompt.copyOfRange(start, end)
            token = engine.step {
                val logits = it.forward(tokens, start)
                if (end == prompt.size) sampler.sample(logits) else -1
            }
        }
        return token
    }

    /** Where other libraries hang their ways of loading a model. */
    public companion object {
        /**
         * Opens the bundle in the folder [directory]. Every byte is compared with the manifest's hashes before the
         * runtime sees it.
         *
         * @param threads number of threads to compute with, 0 for the runtime's own choice
         * @throws SatchelException.BundleCorrupt if a file of the bundle is missing or damaged
         * @throws SatchelException.Unavailable if this device, or this version of the library, can't run the model
         * @throws SatchelException.RuntimeFailure if the runtime can't load the program
         */
        public suspend fun load(directory: File, threads: Int = 0): SatchelModel =
            load(directory, threads, Bundle.factories())

        internal suspend fun load(
            directory: File,
            threads: Int,
            factories: Iterable<TokenEngineFactory>,
        ): SatchelModel {
            require(threads >= 0) { "threads is $threads; it must not be negative" }
            var opened: SatchelModel? = null
            try {
                return withContext(Dispatchers.IO) {
                    val bundle = Bundle.open(directory)
                    bundle.verify { if (!isActive) throw CancellationException("The load was cancelled") }
                    bundle.openModel(threads, factories).also { opened = it }
                }
            } catch (e: CancellationException) {
                opened?.close() // it was opened, but nobody will get it
                throw e
            }
        }

        private fun Bundle.openModel(threads: Int, factories: Iterable<TokenEngineFactory>): SatchelModel {
            val tokenizer = openTokenizer()
            if (tokenizer.vocabSize > manifest.vocabSize) {
                throw SatchelException.BundleCorrupt(
                    Tokenizer.FILE,
                    "at most ${manifest.vocabSize} tokens",
                    "${tokenizer.vocabSize}",
                )
            }
            val prompt = openPrompt()
            return SatchelModel(manifest, tokenizer, prompt, openEngine(factories, threads))
        }
    }
}

/** The whole text, all ids and the end of a stream in one chunk. */
internal suspend fun Flow<TextChunk>.joined(): TextChunk {
    val text = StringBuilder()
    val ids = ArrayList<Int>()
    var last: TextChunk? = null
    collect { chunk ->
        text.append(chunk.text)
        ids.addAll(chunk.ids)
        last = chunk
    }
    return TextChunk(text.toString(), ids, last?.finishReason, last?.stats)
}

private fun rate(count: Int, time: Duration): Double = count / time.toDouble(DurationUnit.SECONDS).coerceAtLeast(1e-9)
