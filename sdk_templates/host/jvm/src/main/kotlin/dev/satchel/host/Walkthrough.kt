package dev.satchel.host

import dev.satchel.ChatHistory
import dev.satchel.ChatSession
import dev.satchel.FinishReason
import dev.satchel.GenerateOptions
import dev.satchel.SatchelModel
import dev.satchel.TextChunk
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import kotlinx.serialization.json.JsonObjectBuilder
import kotlinx.serialization.json.add
import kotlinx.serialization.json.addJsonObject
import kotlinx.serialization.json.buildJsonArray
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import kotlinx.serialization.json.putJsonArray
import kotlinx.serialization.json.putJsonObject
import java.io.File

/** Uses a real model as an app does, and writes down what came of it as one JSON object, for tests to judge. */
internal object Walkthrough {
    private val short = GenerateOptions(maxNewTokens = 24)

    /** `Walkthrough BUNDLE [--threads N]` */
    @JvmStatic
    fun main(arguments: Array<String>) {
        val line = CommandLine(arguments, setOf("threads"))
        val output = standardOutput()
        val bundle = File(line.positional(0, "BUNDLE"))
        val threads = line.int("threads") ?: 1
        val result = runBlocking {
            buildJsonObject {
                put("availability", SatchelModel.availability(bundle).toString())
                SatchelModel.load(bundle, threads).use { model ->
                    chat(model)
                    interrupted(model)
                    options(model)
                }
                put("self_test", SelfCheck.toJson(SatchelModel.selfTest(bundle, threads)))
            }
        }
        output.println(result)
    }

    /** Three turns; and a fourth one, in this session and in one that was restored from the text of the three. */
    private suspend fun JsonObjectBuilder.chat(model: SatchelModel) {
        val session = model.newSession("Be brief.")
        val questions = listOf("What is the capital of France?", "And of Japan?", "Which is larger?")
        val answers = questions.map { session.respond(it, short) }
        putJsonArray("turns") { answers.forEach { addJsonObject { describe(it) } } }
        val restored = model.newSession(ChatHistory.fromJson(session.history.toJson()))
        forget(model)
        val fourth = session.respond("Thanks!", short)
        forget(model)
        val again = restored.respond("Thanks!", short)
        putJsonObject("fourth") { describe(fourth) }
        putJsonObject("restored") { describe(again) }
        put("history", session.history.turns.size)
        put("restored_history", restored.history == session.history)
    }

    /** A reader who leaves, `stop()`, and what the session says afterwards beside one that was left alone. */
    private suspend fun JsonObjectBuilder.interrupted(model: SatchelModel) {
        val question = "Write a haiku about the sea."
        val expected = fresh(model) { it.respond(question, short) }
        val after = fresh(model) { session ->
            session.streamResponse("Tell me a long story.").take(5).toList()
            check(session.history.turns.isEmpty())
            forget(model)
            session.respond(question, short)
        }
        put("text_after_leaving", after.text == expected.text)
        var seen = 0
        val session = model.newSession()
        val chunks = session.streamResponse("Tell me a long story.").onEach { if (++seen == 5) session.stop() }.toList()
        put("stopped_reason", chunks.last().finishReason.toString())
        put("stopped_tokens", chunks.last().stats?.generatedTokens)
        put("stopped_history", session.history.turns.size)
    }

    private suspend fun JsonObjectBuilder.options(model: SatchelModel) {
        val prompt = "The three primary colors are"
        val whole = fresh(model) { model.respond(prompt, short) }
        val stop = whole.text.trim().split(' ')[2]
        val stopped =
            fresh(model) { model.respond(prompt, GenerateOptions(maxNewTokens = 24, stopStrings = listOf(stop))) }
        putJsonObject("stop_string") {
            put("string", stop)
            put("whole", whole.text)
            put("text", stopped.text)
            put("reason", stopped.finishReason.toString())
        }
        put(
            "seeds",
            buildJsonArray {
                for (seed in listOf(1L, 1L, 2L)) {
                    val sampling =
                        GenerateOptions(maxNewTokens = 24, temperature = 1.0, topK = 40, topP = 0.95, seed = seed)
                    add(fresh(model) { model.respond(prompt, sampling) }.text)
                }
            },
        )
    }

    private suspend fun fresh(model: SatchelModel, answer: suspend (ChatSession) -> TextChunk): TextChunk {
        forget(model)
        return answer(model.newSession())
    }

    /** Makes the model remember something else: what is fed in other chunks has other last bits. */
    private suspend fun forget(model: SatchelModel) {
        val last = model.respond("\n\n\n", GenerateOptions(maxNewTokens = 1))
        check(last.finishReason == FinishReason.LENGTH || last.finishReason == FinishReason.STOP)
    }

    private fun JsonObjectBuilder.describe(chunk: TextChunk) {
        put("text", chunk.text)
        put("reason", chunk.finishReason.toString())
        put("prompt_tokens", chunk.stats?.promptTokens)
        put("cached_tokens", chunk.stats?.cachedTokens)
        put("generated_tokens", chunk.stats?.generatedTokens)
        put("peak_memory_bytes", chunk.stats?.peakMemoryBytes)
    }
}
