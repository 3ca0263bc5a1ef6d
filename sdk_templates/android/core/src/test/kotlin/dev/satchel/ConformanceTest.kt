package dev.satchel

import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.test.runTest
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.double
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import java.io.File
import java.nio.ByteBuffer
import java.util.Base64
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** The cases that every implementation of the SDK reproduces exactly (conformance/README.md). */
class ConformanceTest {
    private val tokenizers = file("tokenizers.json").getValue("tokenizers").jsonObject.mapValues { (_, content) ->
        Tokenizer(ByteBuffer.wrap(Base64.getDecoder().decode(content.jsonPrimitive.content)))
    }

    private val JsonObject.tokenizer get() = tokenizers.getValue(text("tokenizer"))

    @Test
    fun `text becomes the ids of the reference`() = forEachCase("encode.json", "cases") { case ->
        val ids = case.tokenizer.encode(case.text("text"), case.getValue("special").jsonPrimitive.boolean)
        assertEquals(case.ints("ids"), ids.toList(), case.text("text"))
    }

    @Test
    fun `ids become the text of the reference`() = forEachCase("decode.json", "cases") { case ->
        val tokenizer = case.tokenizer
        val ids = case.ints("ids")
        val text = tokenizer.decode(ids.toIntArray(), case.getValue("skip_special").jsonPrimitive.boolean)
        assertEquals(case.text("text"), text)
        case["deltas"]?.let { deltas ->
            val stream = Utf8Stream()
            val shown = ids.map { if (tokenizer.isSpecial(it)) "" else stream.add(tokenizer.bytesOf(it)) }
            assertEquals(deltas.jsonArray.map { it.jsonPrimitive.content }, shown + stream.end())
        }
    }

    @Test
    fun `conversations become the prompts of the reference`() {
        val programs = file("prompt.json").getValue("programs").jsonObject
        forEachCase("prompt.json", "cases") { case ->
            val program = PromptProgram.parse(programs.getValue(case.text("program")).toString())
            val turns = case.objects("turns").map { Turn(it.text("role"), it.text("content")) }
            val answer = case.getValue("generation_prompt").jsonPrimitive.boolean
            if ("refused" in case) {
                assertFailsWith<IllegalArgumentException> { program.render(turns, answer) }
            } else {
                val segments = program.render(turns, answer).map { segment ->
                    when (segment) {
                        is Segment.Token -> JsonPrimitive(segment.id)
                        is Segment.Text -> JsonPrimitive(segment.text)
                    }
                }
                assertEquals(case.getValue("segments").jsonArray.toList(), segments)
                assertEquals(case.ints("ids"), program.encode(tokenizers.getValue("chat"), turns, answer).toList())
            }
        }
    }

    @Test
    fun `draws are those of the reference`() = forEachCase("sampler.json", "draws") { case ->
        val logits = FloatArray(case.getValue("logits").jsonArray.size) {
            case.getValue("logits").jsonArray[it].jsonPrimitive.content.toFloat()
        }
        val sampler = Sampler(case.number("temperature"), case.getValue("seed").jsonPrimitive.long)
        val expected = case.ints("ids")
        assertEquals(expected, expected.map { sampler.sample(logits) })
    }

    @Test
    fun `random words and exponentials have the bits of the reference`() {
        forEachCase("sampler.json", "generator") { case ->
            val generator = Xoshiro256(case.getValue("seed").jsonPrimitive.long)
            val words = case.getValue("words").jsonArray.map { it.jsonPrimitive.content }
            assertEquals(words, words.map { generator.next().toULong().toString() })
        }
        for (pair in file("sampler.json").getValue("exp").jsonArray) {
            val (z, expected) = pair.jsonArray.map { it.jsonPrimitive.content.toULong(radix = 16).toLong() }
            assertEquals(expected, exponential(Double.fromBits(z)).toRawBits())
        }
    }

    @Test
    fun `temperatures out of range are refused`() = forEachCase("sampler.json", "refused") { case ->
        assertFailsWith<IllegalArgumentException> { Sampler(case.number("temperature"), 0) }
    }

    @Test
    fun `the engine is called, and chunks come, as in the reference`() = forEachCase("generate.json", "cases") { case ->
        runTest { generate(case) }
    }

    private suspend fun generate(case: JsonObject) {
        val tokenizer = tokenizers.getValue("chat")
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

    private fun forEachCase(name: String, list: String, body: (JsonObject) -> Unit) {
        val cases = file(name).getValue(list).jsonArray
        assertTrue(cases.isNotEmpty())
        cases.forEach { body(it.jsonObject) }
    }

    private fun file(name: String): JsonObject =
        Json.parseToJsonElement(File(System.getProperty("satchel.conformance.dir"), name).readText()).jsonObject

    private fun JsonObject.text(name: String) = getValue(name).jsonPrimitive.content

    private fun JsonObject.int(name: String) = getValue(name).jsonPrimitive.int

    private fun JsonObject.number(name: String) = getValue(name).jsonPrimitive.double

    private fun JsonObject.ints(name: String) = getValue(name).toInts()

    private fun JsonObject.objects(name: String) = getValue(name).jsonArray.map { it.jsonObject }

    private fun JsonElement.toInts() = jsonArray.map { it.jsonPrimitive.int }
}
