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
        val tokenizer = case.tokenizer
        val text = case.text("text")
        val special = case.getValue("special").jsonPrimitive.boolean
        val ids = case.ints("ids")
        assertEquals(ids, tokenizer.encode(text, special).toList(), text)
        val behind = case["ids_behind"]?.toInts() ?: ids
        assertEquals(behind, tokenizer.encode(text, special, atStart = false).toList(), text)
        if (special) assertEquals(case["ids_raw"]?.toInts() ?: ids, tokenizer.encodeRaw(text).toList(), text)
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
