package dev.satchel

import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.ln

/**
 * What a self-test found.
 *
 * @property checks one after another, as far as they were made
 */
public class SelfTestResult internal constructor(
    public val checks: List<Check>,
) {
    /** Everything is as it was where the model was built. */
    public val passed: Boolean get() = checks.all { it.passed }

    /** For logs. */
    override fun toString(): String = checks.joinToString("\n")

    /**
     * One thing that was tested.
     *
     * @property name `load`, `files`, `golden`, `tokenizer`, `prompt`, `sampler` or `model`; more may come
     * @property passed whether it is as it should be
     * @property detail what was compared, or what differs
     */
    public class Check internal constructor(
        public val name: String,
        public val passed: Boolean,
        public val detail: String,
    ) {
        /** For logs. */
        override fun toString(): String = "$name ${if (passed) "passed" else "FAILED"}: $detail"
    }
}

/** Runs the vectors of `golden.json` (docs/golden-format.md). */
internal class SelfTest(
    private val golden: JsonFields,
    private val tokenizer: Tokenizer,
    private val prompt: PromptProgram?,
    private val vocabSize: Int,
) {
    init {
        val version = golden.int("schema_version")
        if (version != SCHEMA_VERSION) {
            throw SatchelException.BundleCorrupt("golden.json", "schema version $SCHEMA_VERSION", "$version")
        }
    }

    fun tokenizer(): SelfTestResult.Check {
        val encode = golden.objects("encode")
        val decode = golden.objects("decode")
        for (case in encode) {
            val ids = tokenizer.encode(case.string("text"), case.boolean("special")).toList()
            if (ids != case.ints("ids")) {
                return failed("tokenizer", "'${case.string("text")}' gives $ids, not ${case.ints("ids")}")
            }
        }
        for (case in decode) {
            val text = tokenizer.decode(case.ints("ids").toIntArray(), case.boolean("skip_special"))
            if (text != case.string("text")) {
                return failed("tokenizer", "${case.ints("ids")} give '$text', not '${case.string("text")}'")
            }
        }
        return passed("tokenizer", "${encode.size} texts and ${decode.size} lists of ids are as they should be")
    }

    fun prompt(): SelfTestResult.Check {
        val cases = golden.objects("prompts")
        for (case in cases) {
            val turns = case.objects("turns").map { Turn(it.string("role"), it.string("content")) }
            val ids = try {
                prompt?.encode(tokenizer, turns, case.boolean("generation_prompt"))?.toList()
            } catch (e: IllegalArgumentException) {
                return failed("prompt", "'${case.string("text")}' is refused: ${e.message}")
            }
            if (ids != case.ints("ids")) {
                return failed("prompt", "'${case.string("text")}' gives $ids, not ${case.ints("ids")}")
            }
        }
        return passed("prompt", "${cases.size} conversations are as they should be")
    }

    fun sampler(): SelfTestResult.Check {
        val cases = golden.objects("sampler")
        for (case in cases) {
            val logits = case.doubles("logits").map { it.toFloat() }.toFloatArray()
            val sampler =
                Sampler(GenerateOptions(), case.double("temperature"), case.long("seed"), logits.size, IntArray(0))
            val ids = case.ints("ids").map { sampler.sample(logits) }
            if (ids != case.ints("ids")) return failed("sampler", "drew $ids, not ${case.ints("ids")}")
        }
        return passed("sampler", "${cases.size} rows of draws are as they should be")
    }

    /** Feeds a text and compares the mean log-probability of its tokens; null if the bundle has no reference for it. */
    fun model(memory: EngineMemory, proceed: () -> Unit): SelfTestResult.Check? {
        val reference = golden.optionalObj("teacher_forced") ?: return null
        val ids = reference.ints("ids")
        val expected = reference.doubles("log_probabilities").average()
        val tolerance = reference.double("mean_tolerance")
        if (ids.size > memory.engine.contextLength || ids.any { it !in 0 until vocabSize }) {
            throw SatchelException.BundleCorrupt("golden.json", "ids that the model can take", "others")
        }
        var sum = 0.0
        for (position in 0 until ids.size - 1) {
            proceed()
            sum += logProbability(memory.forward(intArrayOf(ids[position]), position), ids[position + 1])
        }
        val mean = sum / (ids.size - 1)
        val detail = "the mean log-probability of ${ids.size - 1} tokens is %.4f, the reference's %.4f, tolerance %.4f"
            .format(java.util.Locale.ROOT, mean, expected, tolerance)
        // A mean of NaN must fail.
        return if (abs(mean - expected) <= tolerance) passed("model", detail) else failed("model", detail)
    }

    private fun logProbability(logits: FloatArray, id: Int): Double {
        val maximum = logits.max().toDouble()
        return logits[id] - maximum - ln(logits.sumOf { exp(it - maximum) })
    }

    companion object {
        private const val SCHEMA_VERSION = 1

        fun passed(name: String, detail: String) = SelfTestResult.Check(name, true, detail)

        fun failed(name: String, detail: String) = SelfTestResult.Check(name, false, detail)
    }
}
