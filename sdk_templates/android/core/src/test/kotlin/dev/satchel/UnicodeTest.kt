package dev.satchel

import java.nio.ByteBuffer
import java.nio.charset.CodingErrorAction
import kotlin.test.Test
import kotlin.test.assertEquals

class UnicodeTest {
    private fun bytes(vararg values: Int) = ByteArray(values.size) { values[it].toByte() }

    private fun decode(bytes: ByteArray): String {
        val stream = Utf8Stream()
        val text = StringBuilder()
        for (byte in bytes) stream.add(byte, text)
        stream.end(text)
        return text.toString()
    }

    @Test
    fun `malformed bytes become one replacement for each maximal subpart`() {
        assertEquals("\uFFFD\uFFFD\uFFFD", decode(bytes(0xC0, 0x80, 0xFF)))
        assertEquals("\uFFFDA", decode(bytes(0xE2, 0x82, 'A'.code)))
        assertEquals("\uFFFD\uFFFD\uFFFD", decode(bytes(0xED, 0xA0, 0x80)))
        assertEquals("\uFFFD\uFFFD", decode(bytes(0xF0, 0x9F, 0x99, 0xE2)))
        assertEquals("\uFFFD\uFFFD\uFFFD\uFFFD", decode(bytes(0xF4, 0x90, 0x80, 0x80)))
    }

    @Test
    fun `what is not UTF-8 is remembered`() {
        val cases = listOf(bytes(0xE2, 0x82, 0xAC) to false, bytes(0xE2, 0x82) to true, bytes(0x80) to true)
        for ((bytes, malformed) in cases) {
            val stream = Utf8Stream()
            val text = StringBuilder()
            for (byte in bytes) stream.add(byte, text)
            stream.end(text)
            assertEquals(malformed, stream.malformed)
        }
    }

    @Test
    fun `valid text is what the platform reads`() {
        val decoder = Charsets.UTF_8.newDecoder().onMalformedInput(CodingErrorAction.REPORT)
        val text = (0..0x10FFFF step 7).filter { it !in 0xD800..0xDFFF }.joinToString("") { Character.toString(it) }
        val data = text.encodeToByteArray()
        assertEquals(decoder.decode(ByteBuffer.wrap(data)).toString(), decode(data))
    }

    @Test
    fun `an unpaired surrogate counts as the replacement character`() {
        assertEquals(listOf(0xFFFD, 0x1F642, 0xFFFD), codePoints("\uDE42\uD83D\uDE42\uD83D").toList())
    }

    @Test
    fun `code points become the platform's UTF-8`() {
        for (point in (0..0x10FFFF step 3).filter { it !in 0xD800..0xDFFF }) {
            val written = Utf8Bytes().apply { add(point) }
            assertEquals(Character.toString(point).encodeToByteArray().toList(), written.items.take(written.size))
        }
    }
}
