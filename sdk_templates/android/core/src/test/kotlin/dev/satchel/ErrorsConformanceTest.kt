package dev.satchel

import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.test.runTest
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.contentOrNull
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive
import kotlin.test.Test
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertIs

/** What the Python reference refuses (conformance/README.md). */
class ErrorsConformanceTest {
    private val stopId = ConformanceCases.file("errors.json").int("stop_id")

    @Test
    fun `options out of range are refused`() = ConformanceCases.forEach("errors.json", "options") { case ->
        val mentions = case.texts("mentions")
        if (mentions.isEmpty()) {
            case.options()
        } else {
            val message = assertFailsWith<IllegalArgumentException> { case.options() }.message.orEmpty()
            mentions.forEach { assertContains(message, it) }
        }
    }

    @Test
    fun `a text that is no history is refused`() = ConformanceCases.forEach("errors.json", "histories") { case ->
        if (case.getValue("refused").jsonPrimitive.boolean) {
            assertFailsWith<IllegalArgumentException> { ChatHistory.fromJson(case.text("json")) }
        } else {
            val history = ChatHistory.fromJson(case.text("json"))
            assertEquals(history, ChatHistory.fromJson(history.toJson()))
            assertEquals(case.getValue("instructions").jsonPrimitive.contentOrNull, history.instructions)
            assertEquals(
                case.objects("turns").map { it.text("role") to it.text("text") },
                history.turns.map { it.role.name.lowercase() to it.text },
            )
        }
    }

    @Test
    fun `a request that can't be answered fails with its cause`() =
        ConformanceCases.forEach("errors.json", "requests") { case ->
            val scripted = ScriptedModel(case, stopId)
            scripted.prompt = case.int("prompt")
            scripted.answer = case.ints("answer")
            runTest {
                val error = assertFailsWith<Exception> {
                    scripted.model.generate(case.options(), { false }) { IntArray(scripted.prompt) { 7 } }.toList()
                }
                assertIsKind(case.text("error"), error)
                case.texts("mentions").forEach { assertContains(error.message.orEmpty(), it) }
                assertEquals(case.getValue("calls").jsonArray.map { it.toInts() }, scripted.calls)
            }
        }

    @Test
    fun `nonsense from the engine ends an answer, and the session can be used again`() =
        ConformanceCases.forEach("errors.json", "logits") { case ->
            val scripted = scripted(case)
            val bad = case.getValue("bad").toNumber().toFloat()
            scripted.instead = { said -> bad.takeIf { said == case.int("after") } }
            val session = scripted.model.newSession()
            val text = StringBuilder()
            runTest {
                val error = assertFailsWith<Exception> { session.streamResponse("a").collect { text.append(it.text) } }
                assertIsKind(case.text("error"), error)
                assertEquals(case.text("text"), text.toString())
                assertEquals(ChatHistory(), session.history)
                scripted.instead = { null }
                val again = session.respond("a")
                assertEquals("Hello world", again.text)
                assertEquals(case.int("cached_after"), again.stats!!.cachedTokens)
            }
        }

    @Test
    fun `a second request on a busy session fails, the first one goes on`() =
        ConformanceCases.forEach("errors.json", "busy") { case ->
            val session = scripted(case).model.newSession()
            var seen = 0
            runTest {
                val chunks = session.streamResponse("a").onEach {
                    if (++seen == case.int("chunks")) assertFailsWith<IllegalStateException> { session.respond("b") }
                }.toList()
                assertEquals(case.text("text"), chunks.joinToString("") { it.text })
            }
        }

    private fun scripted(case: JsonObject) = ScriptedModel(64, 16, stopId, ScriptedModel.program("chatml")).apply {
        prompt = case.int("prompt_tokens")
        answer = case.ints("answer")
    }

    private fun assertIsKind(kind: String, error: Exception) {
        when (kind) {
            "misuse" -> assertIs<IllegalArgumentException>(error)
            "context" -> assertIs<SatchelException.ContextSizeExceeded>(error)
            "runtime" -> assertIs<SatchelException.RuntimeFailure>(error)
            else -> error("There is no kind of error '$kind'")
        }
    }

    private fun JsonObject.texts(name: String) = getValue(name).jsonArray.map { it.jsonPrimitive.content }
}
