package dev.satchel

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.microseconds
import kotlin.time.Duration.Companion.seconds

class CancelAndCloseRaceTest {
    @TempDir
    lateinit var folder: File

    private val random = Random(1)
    private val options = GenerateOptions(maxNewTokens = 1000)

    private fun pause() = random.nextInt(3000).microseconds

    @Test
    fun `a session cancelled at any moment is usable at once`() = runBlocking {
        val engine = FakeEngine.endless(stepMillis = 1)
        SatchelModel.load(TestBundle.write(folder), 0, engine.asFactory()).use { model ->
            val session = model.newSession()
            repeat(CANCELS) {
                val job = launch(Dispatchers.Default) { session.streamResponse("a longer prompt", options).collect {} }
                delay(pause())
                job.cancelAndJoin()
                val steps = engine.steps.get()
                delay(pause() / 3)
                assertEquals(steps, engine.steps.get(), "steps went on after the cancelled collector had ended")
            }
            withTimeout(5.seconds) { session.respond("still there?", GenerateOptions(maxNewTokens = 2)) }
            assertEquals(0, engine.misuse.get())
        }
    }

    @Test
    fun `closing at any moment waits for the step, and every collector learns why it ended`() = runBlocking {
        TestBundle.write(folder)
        repeat(LOADS) {
            val engine = FakeEngine.endless(stepMillis = if (it % 2 == 0) 1 else 0)
            val model = SatchelModel.load(folder, 0, engine.asFactory())
            val refused = AtomicInteger()
            val finished = AtomicInteger()
            val collectors = List(2) { index ->
                launch(Dispatchers.Default) {
                    try {
                        model.generate("prompt $index", options).collect {}
                        finished.incrementAndGet()
                    } catch (e: CancellationException) {
                        throw e // would mean that a closed model looks like a cancelled collector
                    } catch (_: IllegalStateException) {
                        refused.incrementAndGet()
                    }
                }
            }
            delay(pause())
            val closers = List(2) { thread { model.close() } }
            closers.forEach { closer -> closer.join() }
            val steps = engine.steps.get()
            collectors.forEach { collector -> collector.join() }
            assertEquals(2, refused.get() + finished.get())
            assertTrue(collectors.none { collector -> collector.isCancelled })
            assertEquals(steps, engine.steps.get(), "the engine ran after close had returned")
            assertEquals(listOf(1, 0), listOf(engine.closed.get(), engine.misuse.get()))
        }
    }

    @Test
    fun `a load that is cancelled leaves no engine open`() = runBlocking {
        TestBundle.write(folder)
        repeat(50) {
            val engine = FakeEngine.endless()
            var model: SatchelModel? = null
            val job = launch(Dispatchers.Default) { model = SatchelModel.load(folder, 0, opening(engine)) }
            delay(random.nextInt(2000).microseconds)
            job.cancelAndJoin()
            model?.close()
            assertEquals(opened.getAndSet(0), engine.closed.get())
        }
    }

    private val opened = AtomicInteger()

    private fun opening(engine: FakeEngine) = listOf(
        object : TokenEngineFactory {
            override val backend = "fake"
            override val runtimeVersion = "1.5.0"

            override fun open(program: File, threads: Int): TokenEngine {
                opened.incrementAndGet()
                return engine
            }
        },
    )

    private companion object {
        // A few in every build; thousands in the long proofs (tests/verify).
        val CANCELS: Int = Integer.getInteger("satchel.cancels", 200)
        val LOADS: Int = Integer.getInteger("satchel.loads", 200)
    }
}
