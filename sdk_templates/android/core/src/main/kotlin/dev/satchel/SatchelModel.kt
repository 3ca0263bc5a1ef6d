package dev.satchel

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.isActive
import kotlinx.coroutines.withContext
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.Executor
import kotlin.random.Random
import kotlin.time.Duration.Companion.nanoseconds

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
    private val prompt: PromptProgram?,
    engine: TokenEngine,
    private val bundle: Bundle? = null,
    private val clock: Clock = Clock(System::nanoTime),
) : AutoCloseable {
    private val engine = EngineThread(engine)
    private val stopIds = manifest.stopIds.toIntArray()

    /** The model's name, such as `smollm2-135m-instruct`. */
    public val id: String get() = manifest.modelId

    /** The name of the recipe that the model was quantized with, such as `int4`. */
    public val recipe: String get() = manifest.recipe

    /** What runs it, such as `executorch`. */
    public val backend: String get() = manifest.backend

    /** A short name of the bundle's content: a bundle that differs in one byte has another one. */
    public val version: String get() = contentVersion(manifest).take(SHOWN_VERSION)

    /** Most tokens that prompt and answer can have together. */
    public val contextLength: Int get() = manifest.contextLength

    /** Whether the model has a chat template; without one there are no sessions, only [generate]. */
    public val isChat: Boolean get() = prompt != null && prompt.isChat

    /** Hears of every generation that starts from now on; null for nobody. */
    @Volatile
    public var listener: GenerationListener? = null

    /**
     * Starts a conversation.
     *
     * @param instructions what the model is told before the first turn; null for the model's own default
     * @throws IllegalStateException if this model takes raw prompts only, see [isChat]
     */
    @JvmOverloads
    public fun newSession(instructions: String? = null): ChatSession = newSession(ChatHistory(instructions))

    /**
     * Goes on with a conversation that was had before, perhaps with another model.
     *
     * @throws IllegalStateException if this model takes raw prompts only, see [isChat]
     */
    public fun newSession(history: ChatHistory): ChatSession {
        val program = prompt
        check(program != null && program.isChat) { "This model has no chat template: use generate with a raw prompt" }
        return ChatSession(this, program, history)
    }

    /**
     * Continues [prompt] as it stands, without the model's chat template; special tokens written in it count as such.
     *
     * Nothing runs until the flow is collected; each collection generates anew. Cancelling the collector stops after
     * the step that runs: one chunk of the prompt, or one token.
     *
     * While it is collected, the flow throws [IllegalArgumentException] if the prompt is empty or the options name a
     * token that the model does not have, [IllegalStateException] if the model is closed,
     * [SatchelException.ContextSizeExceeded] if the prompt does not fit and [SatchelException.RuntimeFailure] if the
     * runtime fails.
     */
    public fun generate(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<TextChunk> =
        generate(options, { false }) { tokenizer.encodeRaw(prompt) }

    /**
     * Collects [generate] into one chunk with the whole text.
     *
     * @throws IllegalArgumentException if the prompt is empty or the options name a token that the model does not have
     * @throws IllegalStateException if the model is closed
     * @throws SatchelException.ContextSizeExceeded if the prompt does not fit
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public suspend fun respond(prompt: String, options: GenerateOptions = GenerateOptions()): TextChunk =
        generate(prompt, options).joined()

    /**
     * [generate] for languages without coroutines.
     *
     * @param executor runs [callback], such as `context.getMainExecutor()` on Android
     * @return ends it early: [callback] then hears nothing more
     */
    public fun generate(
        prompt: String,
        options: GenerateOptions,
        executor: Executor,
        callback: TextCallback,
    ): Cancellable = generate(prompt, options).deliver(executor, callback)

    /** How many tokens [text] takes, without what a chat template adds around it. */
    public fun countTokens(text: String): Int = tokenizer.encode(text, special = false).size

    /**
     * Runs one step, so that the first answer need not wait for the program to be read from storage.
     * [ChatSession.prewarm] does more.
     *
     * @throws IllegalStateException if the model is closed
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public suspend fun prewarm() {
        prewarm { IntArray(0) }
    }

    /** [prewarm] for languages without coroutines. */
    public fun prewarmAsync(): CompletableFuture<Void?> = inBackground {
        prewarm()
        null
    }

    /**
     * Compares this device with the one that built the model: the bundle's files, tokenizer, prompts and sampling
     * exactly, the model's probabilities within the tolerance that the bundle states. Takes about as long as generating
     * a few hundred tokens, and other generations wait for it.
     *
     * @return what was found; a difference is no exception
     * @throws IllegalStateException if the model is closed
     */
    public suspend fun selfTest(): SelfTestResult {
        val checks = ArrayList<SelfTestResult.Check>()
        try {
            val test = withContext(Dispatchers.IO) {
                bundle?.verify { if (!isActive) throw CancellationException("The self-test was cancelled") }
                checks += SelfTest.passed("files", "every byte has the manifest's hash")
                bundle?.openGolden()?.let { SelfTest(it, tokenizer, prompt, manifest.vocabSize) }
            }
            if (test == null) {
                checks += SelfTest.failed("golden", "the bundle has no golden.json to compare with")
                return SelfTestResult(checks)
            }
            withContext(Dispatchers.Default) {
                checks += test.tokenizer()
                checks += test.prompt()
                checks += test.sampler()
            }
            val model = engine.exclusively {
                listOfNotNull(engine.step { memory, proceed -> test.model(memory, proceed) })
            }
            checks += model.orEmpty()
        } catch (e: SatchelException.BundleCorrupt) {
            checks += SelfTest.failed("files", e.message.orEmpty())
        } catch (e: SatchelException.RuntimeFailure) {
            checks += SelfTest.failed("model", e.message.orEmpty())
        }
        return SelfTestResult(checks)
    }

    /** [selfTest] for languages without coroutines. */
    public fun selfTestAsync(): CompletableFuture<SelfTestResult> = inBackground { selfTest() }

    /**
     * Lets the running step end, then frees the model's memory. Idempotent; generations that still run fail with
     * [IllegalStateException]. Blocks for one step at most.
     */
    override fun close() {
        engine.close()
    }

    /** Waits until no answer is being generated, then [close]s. Returns at once if the model is closed already. */
    public suspend fun closeWhenIdle() {
        engine.closeWhenIdle()
    }

    /**
     * Continues the prompt whose ids [encode] gives, on a thread of its own choice.
     *
     * @param isStopped whether the answer is to end with [FinishReason.CANCELLED]
     * @param encode gets the number of tokens that the answer may have
     */
    internal fun generate(
        options: GenerateOptions,
        isStopped: () -> Boolean,
        encode: (Int) -> IntArray,
    ): Flow<TextChunk> = flow {
        val started = clock.nanos()
        engine.requireOpen()
        val maxNewTokens = options.maxNewTokens ?: manifest.defaultMaxNewTokens
        val temperature = options.temperature ?: manifest.defaultTemperature
        val seed = options.seed ?: Random.nextLong()
        val prompt = withContext(Dispatchers.Default) { encode(maxNewTokens) }
        require(prompt.isNotEmpty()) { "The prompt is empty: it needs at least one token" }
        if (prompt.size > contextLength) throw SatchelException.ContextSizeExceeded(contextLength, prompt.size)
        val sampler = Sampler(options, temperature, seed, manifest.vocabSize, prompt)
        val patience = options.timeout?.let { it - (clock.nanos() - started).nanoseconds }
        engine.exclusively(patience) {
            val generation = engine.step { memory, _ ->
                Generation(
                    memory, tokenizer, prompt, sampler, stopIds, maxNewTokens, options, clock, started, isStopped,
                )
            }
            val lookAhead = engine.task(generation::lookAhead)
            val listener = listener
            listener.notify { started(prompt.size, generation.cachedTokens) }
            try {
                do {
                    // The engine goes on while the collector has the chunk, by one token.
                    val chunk = engine.step { _, proceed -> generation.next(proceed).also { engine.next(lookAhead) } }
                    val reason = chunk.finishReason
                    if (reason != null) listener.notify { chunk.stats?.let { finished(reason, it) } }
                    emit(chunk)
                } while (reason == null)
            } catch (e: Throwable) {
                generation.abandon()
                engine.settle(generation::dropAhead)
                listener.notify { failed(e) }
                throw e
            }
        } ?: emit(Generation.neverStarted(prompt.size))
    }

    /** Feeds the ids that [encode] gives, or one token if there are none and nothing was fed before. */
    internal suspend fun prewarm(encode: () -> IntArray) {
        val ids = withContext(Dispatchers.Default) { encode() }
        engine.exclusively {
            engine.step { memory, proceed ->
                val wanted = if (ids.isEmpty() && memory.isEmpty) intArrayOf(stopIds.firstOrNull() ?: 0) else ids
                var position = if (wanted.isEmpty()) 0 else memory.reusable(wanted)
                while (position < wanted.size) {
                    proceed()
                    val end = minOf(position + manifest.prefillChunk, wanted.size)
                    memory.forward(wanted.copyOfRange(position, end), position)
                    position = end
                }
            }
        }
    }

    /** Where other libraries hang their ways of loading a model. */
    public companion object {
        private const val SHOWN_VERSION = 12

        /**
         * Opens the bundle in the folder [directory]. Every byte is compared with the manifest's hashes before the
         * runtime sees it. Memory is not looked at; [availability] does.
         *
         * @param threads number of threads to compute with, 0 for the runtime's own choice
         * @throws IllegalArgumentException if [threads] is negative
         * @throws SatchelException.BundleCorrupt if a file of the bundle is missing or damaged
         * @throws SatchelException.Unavailable if this device, or this version of the library, can't run the model
         * @throws SatchelException.RuntimeFailure if the runtime can't load the program
         */
        public suspend fun load(directory: File, threads: Int = 0): SatchelModel =
            load(directory, threads, Bundle.factories())

        /** [load] for languages without coroutines. Cancelling the future cancels the load. */
        @JvmStatic
        @JvmOverloads
        public fun loadAsync(directory: File, threads: Int = 0): CompletableFuture<SatchelModel> =
            inBackground { load(directory, threads) }

        /**
         * Whether the bundle in [directory] can be loaded here, without loading it: its files, the versions it needs,
         * the processor, the memory that is free now.
         */
        public suspend fun availability(directory: File): Availability =
            availability(directory, Bundle.factories())

        /** [availability] for languages without coroutines. */
        @JvmStatic
        public fun availabilityAsync(directory: File): CompletableFuture<Availability> =
            inBackground { availability(directory) }

        /**
         * Loads the bundle in [directory], runs [SatchelModel.selfTest] and closes it.
         *
         * @return what was found; also a bundle that can't be loaded is a result, no exception
         */
        public suspend fun selfTest(directory: File, threads: Int = 0): SelfTestResult =
            selfTest(directory, threads, Bundle.factories())

        /**
         * Whether the bundle whose `manifest.json` has the text [manifest] can be loaded on [device], without its
         * files.
         *
         * @suppress
         */
        @InternalSatchelApi
        public fun availabilityOf(manifest: String, device: DeviceFacts): Availability =
            availabilityOr { availabilityOf(Manifest.parse(manifest), device, Bundle.factories()) }

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

        @OptIn(InternalSatchelApi::class)
        internal suspend fun availability(
            directory: File,
            factories: Iterable<TokenEngineFactory>,
        ): Availability = withContext(Dispatchers.IO) {
            availabilityOr {
                val bundle = Bundle.open(directory)
                bundle.verify { if (!isActive) throw CancellationException("The check was cancelled") }
                availabilityOf(bundle.manifest, DeviceFacts.read(), factories)
            }
        }

        internal suspend fun selfTest(
            directory: File,
            threads: Int,
            factories: Iterable<TokenEngineFactory>,
        ): SelfTestResult {
            val model = try {
                load(directory, threads, factories)
            } catch (e: SatchelException) {
                return SelfTestResult(listOf(SelfTest.failed("load", e.message.orEmpty())))
            }
            return model.use { it.selfTest() }
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
            return SatchelModel(manifest, tokenizer, prompt, openEngine(factories, threads), this)
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
