package dev.satchel

import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.math.ln
import kotlin.test.Test
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertTrue

class SelfTestTest {
    @TempDir
    lateinit var folder: File

    /** An engine that finds every token equally likely. */
    private fun indifferent() = object : TokenEngine by FakeEngine.endless() {
        override fun forward(tokens: IntArray, position: Int) = FloatArray(vocabSize)
    }

    private fun factory(engine: TokenEngine) = listOf(
        object : TokenEngineFactory {
            override val backend = "fake"
            override val runtimeVersion = "1.5.0"

            override fun open(program: File, threads: Int) = engine
        },
    )

    private fun golden(
        ids: String = "[97, 98]",
        promptIds: String = "[257, 97, 256, 258]",
        drawn: String = "[1, 1]",
        logProbability: Double = -ln(TestBundle.VOCABULARY.toDouble()),
    ) = """
        {"schema_version": 1, "encode": [{"text": "ab", "special": false, "ids": $ids}],
         "decode": [{"ids": [97], "skip_special": true, "text": "a"}],
         "prompts": [{"turns": [{"role": "user", "content": "a"}], "generation_prompt": true, "text": "a",
                      "ids": $promptIds}],
         "sampler": [{"logits": [0.0, 1.0], "temperature": 0.0, "seed": 0, "ids": $drawn}],
         "teacher_forced": {"ids": [1, 2, 3], "log_probabilities": [$logProbability, $logProbability],
                            "mean_tolerance": 0.01}}
        """

    private suspend fun test(golden: String, engine: TokenEngine = indifferent()) =
        SatchelModel.selfTest(TestBundle.write(folder, golden = golden), 0, factory(engine))

    @Test
    fun `everything passes where everything is as it was`() = runTest {
        val result = test(golden())
        assertTrue(result.passed, result.toString())
        assertEquals(listOf("files", "tokenizer", "prompt", "sampler", "model"), result.checks.map { it.name })
    }

    @Test
    fun `what differs is named, and the rest is still tested`() = runTest {
        val wrong = mapOf(
            "tokenizer" to golden(ids = "[97, 99]"),
            "prompt" to golden(promptIds = "[257]"),
            "sampler" to golden(drawn = "[0, 1]"),
            "model" to golden(logProbability = -5.5),
        )
        for ((name, golden) in wrong) {
            val result = test(golden)
            assertEquals(listOf(name), result.checks.filterNot { it.passed }.map { it.name })
            assertEquals(5, result.checks.size)
            assertFalse(result.passed)
        }
    }

    @Test
    fun `a changed byte, an engine that fails and a bundle without references are results`() = runTest {
        TestBundle.write(folder, golden = golden())
        File(folder, "model.pte").writeText("b program")
        val damaged = SatchelModel.selfTest(folder, 0, factory(indifferent())).checks.single()
        assertEquals("load", damaged.name)
        assertContains(damaged.detail, "model.pte")

        val nan = object : TokenEngine by FakeEngine.endless() {
            override fun forward(tokens: IntArray, position: Int) = FloatArray(vocabSize) { Float.NaN }
        }
        assertFalse(test(golden(), nan).passed)

        val broken = object : TokenEngine by FakeEngine.endless() {
            override fun forward(tokens: IntArray, position: Int) = throw SatchelException.RuntimeFailure(5, "broken")
        }
        assertContains(test(golden(), broken).checks.last().detail, "broken")

        TestBundle.write(folder)
        File(folder, "golden.json").delete()
        assertEquals("golden", SatchelModel.selfTest(folder, 0, factory(indifferent())).checks.last().name)
    }

    @Test
    fun `a file that changes while the model is loaded is found`() = runTest {
        TestBundle.write(folder, golden = golden())
        SatchelModel.load(folder, 0, factory(indifferent())).use { model ->
            assertTrue(model.selfTest().passed)
            File(folder, "model.pte").writeText("b program")
            assertContains(model.selfTest().checks.single().detail, "model.pte")
        }
    }

    @Test
    fun `a closed model can't be tested`() = runTest {
        val model = SatchelModel.load(TestBundle.write(folder, golden = golden()), 0, factory(indifferent()))
        model.close()
        assertFailsWith<IllegalStateException> { model.selfTest() }
    }
}
