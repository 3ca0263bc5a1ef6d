package dev.satchel

import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.test.runTest
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive
import kotlin.test.Test
import kotlin.test.assertEquals

/** Streaming and stop strings as the Python reference has them (conformance/README.md). */
class StreamingConformanceTest {
    @Test
    fun `ids become the deltas of the reference`() = ConformanceCases.forEach("streaming.json", "deltas") { case ->
        val stream = ConformanceCases.tokenizers.getValue("chat").newStream()
        val shown = case.ints("ids").map(stream::add)
        assertEquals(case.texts("deltas"), shown + stream.end())
    }

    @Test
    fun `no grapheme cluster is split, as in the reference`() =
        ConformanceCases.forEach("streaming.json", "graphemes") { case ->
            val graphemes = ConformanceCases.tokenizers.getValue("chat").newGraphemes()
            val shown = case.texts("pieces").map(graphemes::push)
            assertEquals(case.texts("shown"), shown + graphemes.finish())
        }

    @Test
    fun `the engine is called, and chunks come, as in the reference`() = generations("streaming.json")

    @Test
    fun `text is held back, and ends, as in the reference`() =
        ConformanceCases.forEach("stop_strings.json", "pieces") { case ->
            val stop = StopStrings(case.texts("stop_strings"))
            val shown = case.texts("pieces").map(stop::push)
            assertEquals(case.texts("shown"), shown + stop.finish())
            assertEquals(case.getValue("found").jsonPrimitive.boolean, stop.found)
        }

    @Test
    fun `an answer ends at a stop string as in the reference`() = generations("stop_strings.json")

    private fun generations(file: String) {
        val stopId = ConformanceCases.file(file).int("stop_id")
        ConformanceCases.forEach(file, "generations") { case ->
            val scripted = ScriptedModel(case, stopId)
            scripted.prompt = case.int("prompt")
            scripted.answer = case.ints("answer")
            scripted.model.use { model ->
                runTest {
                    val chunks = model.generate(case.options(), { false }) { IntArray(scripted.prompt) { 7 } }.toList()
                    assertEquals(case.getValue("calls").jsonArray.map { it.toInts() }, scripted.calls)
                    assertEquals(
                        case.objects("chunks").map { it.text("text") to it.ints("ids") },
                        chunks.map { it.text to it.ids },
                    )
                    assertEquals(case.text("finish_reason"), chunks.last().finishReason?.name?.lowercase())
                }
            }
        }
    }

    private fun JsonObject.texts(name: String) = getValue(name).jsonArray.map { it.jsonPrimitive.content }
}
