package dev.satchel

import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.test.runTest
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

/** Sampling and generation, as the Python reference has them (conformance/README.md). */
class ConformanceTest {
    @Test
    fun `draws are those of the reference`() = ConformanceCases.forEach("sampler.json", "draws") { case ->
        val logits = FloatArray(case.getValue("logits").jsonArray.size) {
            case.getValue("logits").jsonArray[it].jsonPrimitive.content.toFloat()
        }
        val sampler = Sampler(case.number("temperature"), case.getValue("seed").jsonPrimitive.long)
        val expected = case.ints("ids")
        assertEquals(expected, expected.map { sampler.sample(logits) })
    }

    @Test
    fun `random words and exponentials have the bits of the reference`() {
        ConformanceCases.forEach("sampler.json", "generator") { case ->
            val generator = Xoshiro256(case.getValue("seed").jsonPrimitive.long)
            val words = case.getValue("words").jsonArray.map { it.jsonPrimitive.content }
            assertEquals(words, words.map { generator.next().toULong().toString() })
        }
        for (pair in ConformanceCases.file("sampler.json").getValue("exp").jsonArray) {
            val (z, expected) = pair.jsonArray.map { it.jsonPrimitive.content.toULong(radix = 16).toLong() }
            assertEquals(expected, exponential(Double.fromBits(z)).toRawBits())
        }
    }

    @Test
    fun `temperatures out of range are refused`() = ConformanceCases.forEach("sampler.json", "refused") { case ->
        assertFailsWith<IllegalArgumentException> { Sampler(case.number("temperature"), 0) }
    }

    @Test
    fun `the engine is called, and chunks come, as in the reference`() =
        ConformanceCases.forEach("generate.json", "cases") { case -> runTest { generate(case) } }

    private suspend fun generate(case: JsonObject) {
        val tokenizer = ConformanceCases.tokenizers.getValue("chat")
        val prompt = case.int("prompt")
        val answer = case.ints("answer")
        val calls = ArrayList<List<Int>>()
        val engine = object : TokenEngine {
            override val vocabSize = tokenizer.vocabSize
            override val contextLength = case.int("context_length")
            override val prefillChunk = case.int("prefill_chunk")

            override fun forward(tokens: IntArray, position: Int): FloatArray {
                calls += listOf(tokens.size, position)
                val behind = position + tokens.size - prompt
                return FloatArray(vocabSize).also { if (behind >= 0) it[answer[minOf(behind, answer.size - 1)]] = 1f }
            }

            override fun close() = Unit
        }
        val manifest = Manifest.parse(
            """{"schema_version": 1, "model": {"id": "m"}, "recipe": "r", "backend": "b", "artifacts": [],
                "context_length": ${engine.contextLength}, "prefill_chunk": ${engine.prefillChunk},
                "vocab_size": ${engine.vocabSize}, "special_ids": {"stop": ${case.getValue("stop_ids")}},
                "generation_defaults": {"temperature": 0, "max_new_tokens": 1}, "requires": {"sdk": "0.1.0"}}""",
        )
        val options = GenerateOptions(maxNewTokens = case.int("max_new_tokens"))
        SatchelModel(manifest, tokenizer, null, engine).use { model ->
            val chunks = model.generate(options) { IntArray(prompt) }.toList()
            assertEquals(case.getValue("calls").jsonArray.map { it.toInts() }, calls)
            assertEquals(
                case.objects("chunks").map { it.text("text") to it.ints("ids") },
                chunks.map { it.text to it.ids },
            )
            assertEquals(case.text("finish_reason"), chunks.last().finishReason?.name?.lowercase())
        }
    }
}
