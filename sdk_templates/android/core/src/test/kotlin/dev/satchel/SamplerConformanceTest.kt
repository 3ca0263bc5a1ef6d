package dev.satchel

import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith

/** Sampling as the Python reference does it (conformance/README.md). */
class SamplerConformanceTest {
    private fun sampler(options: GenerateOptions, vocabSize: Int, prompt: List<Int> = emptyList()) =
        Sampler(options, options.temperature ?: 0.0, options.seed ?: 0, vocabSize, prompt.toIntArray())

    @Test
    fun `draws are those of the reference`() = ConformanceCases.forEach("sampler.json", "draws") { case ->
        val logits = case.logits()
        val sampler = sampler(case.options(), logits.size, case.ints("prompt"))
        val expected = case.ints("ids")
        assertEquals(expected, expected.map { sampler.sample(logits) })
    }

    @Test
    fun `random words equal the reference`() = ConformanceCases.forEach("sampler.json", "generator") { case ->
        val generator = Xoshiro256(case.getValue("seed").jsonPrimitive.long)
        val words = case.getValue("words").jsonArray.map { it.jsonPrimitive.content }
        assertEquals(words, words.map { generator.next().toULong().toString() })
    }

    @Test
    fun `exponentials have the bits of the reference`() = ConformanceCases.forEachElement(
        "sampler.json",
        "exp",
    ) { case ->
        val (z, expected) = case.jsonArray.map { it.jsonPrimitive.content.toULong(radix = 16).toLong() }
        assertEquals(expected, exponential(Double.fromBits(z)).toRawBits())
    }

    @Test
    fun `nothing is drawn from nonsense`() = ConformanceCases.forEach("sampler.json", "nonsense") { case ->
        val logits = case.logits()
        assertFailsWith<SatchelException.RuntimeFailure> { sampler(case.options(), logits.size).sample(logits) }
    }
}
