package dev.satchel

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.hours

class ListenerTest {
    @TempDir
    lateinit var folder: File

    private val heard = ArrayList<String>()
    private val writing = object : GenerationListener {
        override fun started(promptTokens: Int, cachedTokens: Int) {
            heard += "started $promptTokens $cachedTokens"
        }

        override fun finished(reason: FinishReason, stats: GenerationStats) {
            heard += "finished $reason ${stats.generatedTokens}"
        }

        override fun failed(error: Throwable) {
            heard += if (error is CancellationException) "left" else "failed ${error.message}"
        }
    }

    private suspend fun load(engine: FakeEngine) = SatchelModel.load(TestBundle.write(folder), 0, engine.asFactory())

    @Test
    fun `every generation starts once and ends once`() = runTest {
        load(FakeEngine.saying("ab")).use { model ->
            model.listener = writing
            model.respond("xy<assistant>")
            model.respond("xy<assistant>")
            model.generate("xy<assistant>").first()
            assertFailsWith<IllegalStateException> { model.generate("xy<assistant>").collect { model.close() } }
        }
        assertEquals(
            listOf("started 3 0", "finished STOP 2", "started 3 2", "finished STOP 2", "started 3 2", "left") +
                listOf("started 3 2", "failed This SatchelModel is closed"),
            heard,
        )
    }

    @Test
    fun `a listener that throws harms nothing`() = runTest {
        load(FakeEngine.saying("ab")).use { model ->
            var calls = 0
            model.listener = object : GenerationListener {
                override fun started(promptTokens: Int, cachedTokens: Int): Unit = throw AssertionError("${++calls}")

                override fun finished(reason: FinishReason, stats: GenerationStats): Unit = error("${++calls}")

                override fun failed(error: Throwable): Unit = error("${++calls}")
            }
            assertEquals("ab", model.newSession().respond("x").text)
            assertEquals(2, calls)
        }
    }

    @Test
    fun `statistics count what was fed, cached and generated`() = runTest {
        load(FakeEngine.saying("abc")).use { model ->
            val session = model.newSession("Be brief.")
            val first = session.respond("x").stats!!
            assertEquals(listOf(14, 0, 3), listOf(first.promptTokens, first.cachedTokens, first.generatedTokens))
            assertTrue(first.timeToFirstToken!! in 0.hours..1.hours)
            assertTrue(first.prefillTokensPerSecond > 0)
            assertTrue(first.decodeTokensPerSecond!! > 0)
            assertTrue(first.peakMemoryBytes!! > 10_000_000)
            val second = session.respond("y").stats!!
            // The first prompt, its answer, and what closes and opens turns: end, user, y, end, assistant.
            assertEquals(listOf(14 + 3 + 5, 14 + 3), listOf(second.promptTokens, second.cachedTokens))
        }
    }

    @Test
    fun `what is known of a prompt can be read before it is asked`() = runTest {
        val engine = FakeEngine.saying("abc")
        load(engine).use { model ->
            val session = model.newSession("Be brief.")
            session.prewarm()
            val steps = engine.steps.get()
            assertTrue(steps > 0)
            session.prewarm()
            model.prewarm()
            assertEquals(steps + 1, engine.steps.get()) // the last token is fed again: its logits are not kept
            // Instructions, end, user.
            assertEquals(11, session.respond("x").stats!!.cachedTokens)
        }
    }
}
