package dev.satchel

import kotlin.time.Duration

/**
 * How to continue a prompt.
 *
 * @property maxNewTokens most tokens to generate, at least 1; null for the bundle's default
 * @property temperature 0 always takes the likeliest token, larger values choose more freely, up to 100; null for the
 * bundle's default
 * @property seed the same seed gives the same text for the same prompt and options; null for a new one each time
 * @throws IllegalArgumentException if a value is out of range
 */
public class GenerateOptions(
    public val maxNewTokens: Int? = null,
    public val temperature: Double? = null,
    public val seed: Long? = null,
) {
    init {
        require(maxNewTokens == null || maxNewTokens >= 1) { "maxNewTokens is $maxNewTokens; it must be at least 1" }
        if (temperature != null) Sampler.requireTemperature(temperature)
    }
}

/** Why a generation ended. More reasons may come in later versions. */
public enum class FinishReason {
    /** The model ended its turn. */
    STOP,

    /** [GenerateOptions.maxNewTokens] were generated. */
    LENGTH,

    /** The model's context is full. */
    CONTEXT_FULL,
}

/**
 * A piece of the model's answer.
 *
 * @property text the text since the piece before, whole characters only; may be empty in the last piece
 * @property ids the token ids since the piece before
 * @property finishReason why the generation ended; null in all pieces but the last
 * @property stats counts and times; null in all pieces but the last
 */
public class TextChunk internal constructor(
    public val text: String,
    public val ids: List<Int>,
    public val finishReason: FinishReason?,
    public val stats: GenerationStats?,
) {
    override fun toString(): String = "TextChunk(text=$text, ids=$ids, finishReason=$finishReason)"
}

/**
 * Counts and times of one generation.
 *
 * @property promptTokens tokens of the prompt
 * @property generatedTokens tokens of the answer, without the one that ended it
 * @property timeToFirstToken from the start of the generation to the first token
 * @property prefillTokensPerSecond speed of reading the prompt
 * @property decodeTokensPerSecond speed of generating; null if only one token was needed
 */
public class GenerationStats internal constructor(
    public val promptTokens: Int,
    public val generatedTokens: Int,
    public val timeToFirstToken: Duration,
    public val prefillTokensPerSecond: Double,
    public val decodeTokensPerSecond: Double?,
)
