package dev.satchel

import kotlin.time.Duration.Companion.nanoseconds

/** The system's steady clock, or that of a test. */
internal fun interface Clock {
    fun nanos(): Long
}

/**
 * One answer in the making: the loop over the engine's steps (docs/sessions.md). Lives on the engine's thread.
 *
 * A step that shows no text allocates nothing; one that does allocates its chunk.
 *
 * @param startedNanos when the caller asked, by [clock]
 * @param isStopped whether the caller wants no more of it
 */
internal class Generation(
    private val memory: EngineMemory,
    private val tokenizer: Tokenizer,
    private val prompt: IntArray,
    private val sampler: Sampler,
    private val stopIds: IntArray,
    private val maxNewTokens: Int,
    options: GenerateOptions,
    private val clock: Clock,
    private val startedNanos: Long,
    private val isStopped: () -> Boolean,
) {
    /** How many of the prompt's tokens the engine still remembers. */
    val cachedTokens: Int = memory.reusable(prompt)

    private val timeoutNanos = options.timeout?.inWholeNanoseconds ?: Long.MAX_VALUE
    private val stopStrings = StopStrings(options.stopStrings)
    private val stream = tokenizer.newStream()
    private val graphemes = tokenizer.newGraphemes()
    private val single = IntArray(1)
    private val unsent = Ids.Buffer()

    private var position = cachedTokens
    private var generated = 0
    private var text = ""
    private var reason: FinishReason? = null
    private var isStarted = false
    private var prefilledNanos = NEVER
    private var firstTokenNanos = NEVER
    private var decodeNanos = 0L
    private var drawNanos = 0L // of the newest draw

    // The token behind the newest, drawn while the caller looked at a chunk: not part of the answer until it is asked for.
    private var aheadToken = NONE
    private var aheadFailure: Throwable? = null
    private val isAhead: Boolean get() = aheadToken != NONE || aheadFailure != null

    @Volatile
    private var isAbandoned = false

    /**
     * The next chunk: the first one that has text, or the last one. Not to be called after the last one.
     *
     * @param proceed called before every forward; throws if there is to be none
     */
    fun next(proceed: () -> Unit): TextChunk {
        if (!isStarted) start(proceed)
        while (reason == null && text.isEmpty()) advance(proceed)
        return if (reason == null) TextChunk(takeText(), unsent.take(), null, null) else last()
    }

    /**
     * Draws the token behind the newest while the caller looks at its chunk, so that the engine need not wait for the
     * caller. What this fails with, the next [next] throws.
     */
    fun lookAhead() {
        if (reason != null || isAbandoned || ending() != null || interruption() != null) return
        try {
            aheadToken = draw()
        } catch (e: Throwable) {
            aheadFailure = e
        }
    }

    /** Says, from any thread, that no chunk will be asked for any more: what is not yet drawn ahead need not be. */
    fun abandon() {
        isAbandoned = true
    }

    /** Forgets what was computed ahead and not asked for, a failure too. */
    fun dropAhead() {
        if (isAhead) memory.forget(position)
        aheadToken = NONE
        aheadFailure = null
    }

    /** Feeds the prompt chunk by chunk and draws the first token. */
    private fun start(proceed: () -> Unit) {
        isStarted = true
        reason = interruption()
        var logits: FloatArray? = null
        while (reason == null && position < prompt.size) {
            proceed()
            val end = minOf(position + memory.engine.prefillChunk, prompt.size)
            logits = memory.forward(prompt.copyOfRange(position, end), position)
            position = end
            if (position < prompt.size) reason = interruption()
        }
        prefilledNanos = clock.nanos()
        if (reason != null || logits == null) return
        val token = sample(logits)
        firstTokenNanos = clock.nanos()
        accept(token)
    }

    /** Goes on to the next token, unless the answer has to end here. */
    private fun advance(proceed: () -> Unit) {
        // Whether the time had run out was asked before the step that is ahead.
        reason = if (isAhead && !isStopped()) null else ending() ?: interruption()
        if (reason != null) return dropAhead()
        proceed()
        aheadFailure?.let { throw it }
        val token = if (isAhead) aheadToken else draw()
        aheadToken = NONE
        decodeNanos += drawNanos
        position++
        accept(token)
    }

    /** Feeds the newest token and draws the one behind it. */
    private fun draw(): Int {
        val start = clock.nanos()
        val token = sample(memory.forward(single, position))
        drawNanos = clock.nanos() - start
        return token
    }

    /** Logits that nothing can be drawn from may come of nonsense that the engine remembers: all of it is forgotten. */
    private fun sample(logits: FloatArray): Int = try {
        sampler.sample(logits)
    } catch (e: SatchelException.RuntimeFailure) {
        memory.forget(0)
        throw e
    }

    private fun ending(): FinishReason? = when {
        generated == maxNewTokens -> FinishReason.LENGTH
        position == memory.engine.contextLength -> FinishReason.CONTEXT_FULL
        else -> null
    }

    private fun accept(token: Int) {
        if (token in stopIds) {
            reason = FinishReason.STOP
            return
        }
        generated++
        single[0] = token
        unsent.add(token)
        text = graphemes.push(stopStrings.push(stream.add(token)))
        if (stopStrings.found) reason = FinishReason.STOP
    }

    private fun interruption(): FinishReason? = when {
        isStopped() -> FinishReason.CANCELLED
        timeoutNanos != Long.MAX_VALUE && clock.nanos() - startedNanos >= timeoutNanos -> FinishReason.TIMEOUT
        else -> null
    }

    private fun last(): TextChunk {
        val unfinished = stopStrings.push(stream.end()) + stopStrings.finish()
        val rest = takeText() + graphemes.push(unfinished) + graphemes.finish()
        val decoded = maxOf(0, position - prompt.size)
        val stats = GenerationStats(
            promptTokens = prompt.size,
            cachedTokens = cachedTokens,
            generatedTokens = generated,
            timeToFirstToken = if (firstTokenNanos == NEVER) null else (firstTokenNanos - startedNanos).nanoseconds,
            prefillTokensPerSecond = rate(minOf(position, prompt.size) - cachedTokens, prefilledNanos - startedNanos),
            decodeTokensPerSecond = if (decoded > 0) rate(decoded, decodeNanos) else null,
            peakMemoryBytes = ProcessMemory.peakBytes(),
        )
        return TextChunk(rest, unsent.take(), reason, stats)
    }

    private fun takeText(): String = text.also { text = "" }

    private fun rate(count: Int, nanos: Long): Double = count * 1e9 / maxOf(nanos, 1)

    companion object {
        private const val NEVER = Long.MIN_VALUE
        private const val NONE = -1

        /** The only chunk of a generation whose turn did not come in time. */
        fun neverStarted(promptTokens: Int): TextChunk = TextChunk(
            "",
            emptyList(),
            FinishReason.TIMEOUT,
            GenerationStats(promptTokens, 0, 0, null, 0.0, null, ProcessMemory.peakBytes()),
        )
    }
}
