package dev.satchel

import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive
import kotlin.test.Test
import kotlin.test.assertEquals

/** Text to ids and back, as the Python reference has it (conformance/README.md). */
class TokenizerConformanceTest {
    @Test
    fun `text becomes the ids of the reference`() = ConformanceCases.forEach("encode.json", "cases") { case ->
        val ids = case.tokenizer.encode(case.text("text"), case.getValue("special").jsonPrimitive.boolean)
        assertEquals(case.ints("ids"), ids.toList(), case.text("text"))
    }

    @Test
    fun `ids become the text of the reference`() = ConformanceCases.forEach("decode.json", "cases") { case ->
        val tokenizer = case.tokenizer
        val ids = case.ints("ids")
        val text = tokenizer.decode(ids.toIntArray(), case.getValue("skip_special").jsonPrimitive.boolean)
        assertEquals(case.text("text"), text)
        case["deltas"]?.let { deltas ->
            val stream = tokenizer.newStream()
            val shown = ids.map(stream::add)
            assertEquals(deltas.jsonArray.map { it.jsonPrimitive.content }, shown + stream.end())
        }
    }
}
