package dev.satchel

import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.test.runTest
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.contentOrNull
import kotlinx.serialization.json.double
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlin.test.Test
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

/** Conversations as the Python reference has them (conformance/README.md). */
class SessionConformanceTest {
    private val stopId = ConformanceCases.file("session.json").int("stop_id")

    @Test
    fun `turns are fed, remembered and dropped as in the reference`() =
        ConformanceCases.forEach("session.json", "cases") { case -> runTest { run(case) } }

    private suspend fun run(case: JsonObject) {
        val scripted = ScriptedModel(
            contextLength = case.int("context_length"),
            prefillChunk = case.int("prefill_chunk"),
            stopId = stopId,
            program = ScriptedModel.program(case.text("program")),
            secondsPerCall = case["seconds_per_call"]?.jsonPrimitive?.double ?: 0.0,
        )
        scripted.model.use { model ->
            val history = ChatHistory(
                case["instructions"]?.jsonPrimitive?.contentOrNull,
                case.objects("history").map { ChatTurn(role(it), it.text("text")) },
            )
            // A history goes through its text form, as an app would keep it.
            val sessions = case.getValue("histories").jsonArray.map {
                model.newSession(ChatHistory.fromJson(history.toJson()))
            }
            for (request in case.objects("requests")) {
                val session = sessions[request["session"]?.jsonPrimitive?.int ?: 0]
                answer(request, scripted, session)
            }
            for ((session, expected) in sessions.zip(case.getValue("histories").jsonArray)) {
                assertEquals(history.instructions, session.history.instructions)
                assertEquals(
                    expected.jsonArray.map { it.jsonObject.text("role") to it.jsonObject.text("text") },
                    session.history.turns.map { it.role.name.lowercase() to it.text },
                )
            }
        }
    }

    private suspend fun answer(request: JsonObject, scripted: ScriptedModel, session: ChatSession) {
        val isRaw = "raw" in request
        val prompt = request.text("prompt")
        val options = request.options()
        val stream =
            if (isRaw) scripted.model.generate(prompt, options) else session.streamResponse(prompt, options)
        scripted.calls.clear()
        scripted.answer = request.ints("answer")
        if ("refused" in request) {
            val error = assertFailsWith<SatchelException.ContextSizeExceeded> { stream.toList() }
            for (word in request.getValue("mentions").jsonArray) {
                assertContains(listOf(error.tokenCount, error.contextSize), word.jsonPrimitive.int)
            }
            assertEquals(emptyList(), scripted.calls)
            return
        }
        scripted.prompt = request.int("prompt_tokens")
        var seen = 0
        val stopAfter = request["stop_after"]?.jsonPrimitive?.int
        val leaveAfter = request["leave_after"]?.jsonPrimitive?.int ?: Int.MAX_VALUE
        val chunks = stream.onEach { if (++seen == stopAfter) session.stop() }.take(leaveAfter).toList()
        val calls = request.getValue("calls").jsonArray.map { it.toInts() }
        // A step may have begun while the reader had the chunk after which they stopped or left.
        val isEndedByReader = stopAfter != null || "leave_after" in request
        val mayBeAhead = if (isEndedByReader) calls + listOf(listOf(1, calls.last().sum())) else calls
        assertContains(listOf(calls, mayBeAhead), scripted.calls)
        assertEquals(
            request.objects("chunks").map { it.text("text") to it.ints("ids") },
            chunks.map { it.text to it.ids },
        )
        val last = chunks.last()
        assertEquals(request["finish_reason"]?.jsonPrimitive?.content, last.finishReason?.name?.lowercase())
        assertEquals(request["cached_tokens"]?.jsonPrimitive?.int, last.stats?.cachedTokens)
        if (last.stats != null) assertEquals(request.int("prompt_tokens"), last.stats.promptTokens)
    }

    private fun role(turn: JsonObject) = ChatTurn.Role.valueOf(turn.text("role").uppercase())
}
