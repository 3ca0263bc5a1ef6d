package dev.satchel

import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

/** Conversations to prompts, as the Python reference has it (conformance/README.md). */
class PromptConformanceTest {
    @Test
    fun `conversations become the prompts of the reference`() {
        val programs = ConformanceCases.file("prompt.json").getValue("programs").jsonObject
        val tokenizer = ConformanceCases.tokenizers.getValue("chat")
        ConformanceCases.forEach("prompt.json", "cases") { case ->
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
                assertEquals(case.ints("ids"), program.encode(tokenizer, turns, answer).toList())
            }
        }
    }
}
