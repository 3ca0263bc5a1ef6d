package dev.satchel

import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds

/**
 * How to continue a prompt. Every option has a value that changes nothing, which is its default.
 *
 * Sampling is specified to the bit: the same prompt, options and [seed] give the same text wherever the model's logits
 * are the same. Java callers use [Builder].
 *
 * @property maxNewTokens most tokens to generate, at least 1; null for the bundle's default
 * @property temperature 0 always takes the likeliest token, larger values choose more freely, up to 100; null for the
 * bundle's default
 * @property topK only the so many likeliest tokens are drawn, at least 1; null for all
 * @property topP only the likeliest tokens that together have this probability are drawn, above 0, to 1; null for all
 * @property minP only tokens at least this probable, relative to the likeliest, are drawn, 0 to 1; null for all
 * @property repetitionPenalty above 1 makes tokens of prompt and answer less likely, below 1 more, 0.1 to 10
 * @property presencePenalty subtracted from the logit of every token that the answer has, -2 to 2
 * @property frequencyPenalty subtracted from a token's logit for each time that the answer has it, -2 to 2
 * @property logitBias added to the logits of these ids, -100 to 100 each; negative infinity forbids an id
 * @property seed the same seed gives the same text for the same prompt and options; null for a new one each time
 * @property stopStrings the answer ends before the first of these texts that is complete in it: at most 16, of 1 to 256
 * characters each
 * @property timeout the answer ends after the step in which this time is over, counted from the call, above 0; null for
 * no limit
 * @property contextPolicy what a [ChatSession] does when its conversation no longer fits
 * @throws IllegalArgumentException if a value is out of range
 */
public class GenerateOptions(
    public val maxNewTokens: Int? = null,
    public val temperature: Double? = null,
    public val topK: Int? = null,
    public val topP: Double? = null,
    public val minP: Double? = null,
    public val repetitionPenalty: Double = 1.0,
    public val presencePenalty: Double = 0.0,
    public val frequencyPenalty: Double = 0.0,
    logitBias: Map<Int, Double> = emptyMap(),
    public val seed: Long? = null,
    stopStrings: List<String> = emptyList(),
    public val timeout: Duration? = null,
    public val contextPolicy: ContextPolicy = ContextPolicy.ERROR,
) {
    // Copies: what was checked stays what it is.
    public val logitBias: Map<Int, Double> = logitBias.toMap()
    public val stopStrings: List<String> = stopStrings.toList()

    init {
        check("maxNewTokens", maxNewTokens, "at least 1") { it >= 1 }
        check("temperature", temperature, "0 (greedy) to 100") { it in 0.0..100.0 }
        check("topK", topK, "at least 1") { it >= 1 }
        check("topP", topP, "above 0, to 1") { it > 0.0 && it <= 1.0 }
        check("minP", minP, "0 to 1") { it in 0.0..1.0 }
        check("repetitionPenalty", repetitionPenalty, "0.1 to 10") { it in 0.1..10.0 }
        check("presencePenalty", presencePenalty, "-2 to 2") { it in -2.0..2.0 }
        check("frequencyPenalty", frequencyPenalty, "-2 to 2") { it in -2.0..2.0 }
        for ((id, bias) in this.logitBias) {
            check("an id in logitBias", id, "at least 0") { it >= 0 }
            check("logitBias of token $id", bias, "-100 to 100, or negative infinity") {
                it in -100.0..100.0 || it == Double.NEGATIVE_INFINITY
            }
        }
        check("timeout", timeout, "above 0") { it > Duration.ZERO }
        require(this.stopStrings.size <= MAX_STOP_STRINGS) {
            "there are ${this.stopStrings.size} stop strings; there may be 0 to $MAX_STOP_STRINGS"
        }
        for (text in this.stopStrings) {
            val length = text.codePointCount(0, text.length)
            require(length in 1..MAX_STOP_STRING) {
                "a stop string has $length characters; it must have 1 to $MAX_STOP_STRING"
            }
            require(text.codePoints().noneMatch { it in 0xD800..0xDFFF }) {
                "the stop string '$text' has half of a surrogate pair; it must be text"
            }
        }
    }

    private inline fun <T : Any> check(name: String, value: T?, wanted: String, isAllowed: (T) -> Boolean) {
        require(value == null || isAllowed(value)) { "$name is $value; it must be $wanted" }
    }

    /** Makes [GenerateOptions] where a language has no named arguments. What is not set keeps its default. */
    public class Builder {
        private var maxNewTokens: Int? = null
        private var temperature: Double? = null
        private var topK: Int? = null
        private var topP: Double? = null
        private var minP: Double? = null
        private var repetitionPenalty = 1.0
        private var presencePenalty = 0.0
        private var frequencyPenalty = 0.0
        private val logitBias = HashMap<Int, Double>()
        private var seed: Long? = null
        private val stopStrings = ArrayList<String>()
        private var timeout: Duration? = null
        private var contextPolicy = ContextPolicy.ERROR

        /** Sets [GenerateOptions.maxNewTokens]. */
        public fun maxNewTokens(value: Int): Builder = apply { maxNewTokens = value }

        /** Sets [GenerateOptions.temperature]. */
        public fun temperature(value: Double): Builder = apply { temperature = value }

        /** Sets [GenerateOptions.topK]. */
        public fun topK(value: Int): Builder = apply { topK = value }

        /** Sets [GenerateOptions.topP]. */
        public fun topP(value: Double): Builder = apply { topP = value }

        /** Sets [GenerateOptions.minP]. */
        public fun minP(value: Double): Builder = apply { minP = value }

        /** Sets [GenerateOptions.repetitionPenalty]. */
        public fun repetitionPenalty(value: Double): Builder = apply { repetitionPenalty = value }

        /** Sets [GenerateOptions.presencePenalty]. */
        public fun presencePenalty(value: Double): Builder = apply { presencePenalty = value }

        /** Sets [GenerateOptions.frequencyPenalty]. */
        public fun frequencyPenalty(value: Double): Builder = apply { frequencyPenalty = value }

        /** Sets [GenerateOptions.logitBias] of the token [id]. */
        public fun logitBias(id: Int, bias: Double): Builder = apply { logitBias[id] = bias }

        /** Sets [GenerateOptions.seed]. */
        public fun seed(value: Long): Builder = apply { seed = value }

        /** Adds one of [GenerateOptions.stopStrings]. */
        public fun stopString(text: String): Builder = apply { stopStrings += text }

        /** Sets [GenerateOptions.timeout]. */
        public fun timeoutMillis(value: Long): Builder = apply { timeout = value.milliseconds }

        /** Sets [GenerateOptions.contextPolicy]. */
        public fun contextPolicy(value: ContextPolicy): Builder = apply { contextPolicy = value }

        /**
         * The options.
         *
         * @throws IllegalArgumentException if a value is out of range
         */
        public fun build(): GenerateOptions = GenerateOptions(
            maxNewTokens,
            temperature,
            topK,
            topP,
            minP,
            repetitionPenalty,
            presencePenalty,
            frequencyPenalty,
            logitBias,
            seed,
            stopStrings,
            timeout,
            contextPolicy,
        )
    }

    private companion object {
        private const val MAX_STOP_STRINGS = 16
        private const val MAX_STOP_STRING = 256
    }
}

/** What a [ChatSession] does when its conversation no longer fits the model's context. More may come. */
public enum class ContextPolicy {
    /** The request fails with [SatchelException.ContextSizeExceeded]. */
    ERROR,

    /**
     * The model is no longer shown the oldest turns, a question with its answer each, until the conversation and
     * the new answer fit; the instructions stay. [ChatSession.history] keeps all turns.
     */
    DROP_OLDEST_TURNS,
}
