package dev.satchel

import kotlin.time.Duration
import kotlin.time.DurationUnit

/** Why a generation ended. More reasons may come in later versions. */
public enum class FinishReason {
    /** The model ended its turn, or one of [GenerateOptions.stopStrings] was complete. */
    STOP,

    /** [GenerateOptions.maxNewTokens] were generated. */
    LENGTH,

    /** The model's context is full. */
    CONTEXT_FULL,

    /** [GenerateOptions.timeout] was over. */
    TIMEOUT,

    /** [ChatSession.stop] was called. */
    CANCELLED,
}

/**
 * A piece of the model's answer.
 *
 * @property text the text since the piece before, whole characters as a reader sees them: no emoji is split, and no accent
 * comes without its letter; may be empty in the last piece
 * @property ids the token ids since the piece before, those whose text is still to come among them
 * @property finishReason why the generation ended; null in all pieces but the last
 * @property stats counts and times; null in all pieces but the last
 */
public class TextChunk internal constructor(
    public val text: String,
    public val ids: List<Int>,
    public val finishReason: FinishReason?,
    public val stats: GenerationStats?,
) {
    /** For logs. */
    override fun toString(): String = "TextChunk(text=$text, ids=$ids, finishReason=$finishReason)"
}

/**
 * Counts and times of one generation.
 *
 * @property promptTokens tokens of the prompt
 * @property cachedTokens how many of the prompt's tokens the model still remembered and did not read again
 * @property generatedTokens tokens of the answer, without the one that ended it
 * @property timeToFirstToken from the call to the first token; null if the generation ended before
 * @property prefillTokensPerSecond speed of reading the prompt, without what was cached
 * @property decodeTokensPerSecond speed of generating, without the time that the collector took; null if only one token
 * was needed
 * @property peakMemoryBytes most memory that the process had at any time so far; null where the system does not tell
 */
public class GenerationStats internal constructor(
    public val promptTokens: Int,
    public val cachedTokens: Int,
    public val generatedTokens: Int,
    public val timeToFirstToken: Duration?,
    public val prefillTokensPerSecond: Double,
    public val decodeTokensPerSecond: Double?,
    public val peakMemoryBytes: Long?,
) {
    /** [timeToFirstToken] in milliseconds, for languages without Kotlin's durations. */
    public val timeToFirstTokenMillis: Double? get() = timeToFirstToken?.toDouble(DurationUnit.MILLISECONDS)

    /** For logs. */
    override fun toString(): String = "GenerationStats(promptTokens=$promptTokens, cachedTokens=$cachedTokens, " +
        "generatedTokens=$generatedTokens, timeToFirstToken=$timeToFirstToken, " +
        "prefillTokensPerSecond=$prefillTokensPerSecond, decodeTokensPerSecond=$decodeTokensPerSecond, " +
        "peakMemoryBytes=$peakMemoryBytes)"
}
