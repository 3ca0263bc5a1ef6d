package dev.satchel

import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.onEach
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.test.Test
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.seconds
import kotlin.time.TimeSource

class SatchelModelTest {
    @TempDir
    lateinit var folder: File

    private fun FakeEngine.awaitSteps(count: Int) {
        val patience = TimeSource.Monotonic.markNow() + 10.seconds
        while (steps.get() < count && patience.hasNotPassedNow()) Thread.sleep(1)
    }

    private suspend fun load(engine: FakeEngine) = SatchelModel.load(TestBundle.write(folder), 0, engine.asFactory())

    @Test
    fun `an answer streams as whole characters and ends with its turn`() = runTest {
        load(FakeEngine.saying("né 🙂")).use { model ->
            val chunks = model.newSession().streamResponse("Hi").toList()
            assertEquals(listOf("n", "é", " ", "🙂"), chunks.map { it.text })
            assertEquals(listOf(1 + 2, 1, 4, 0), chunks.map { it.ids.size }) // each comes with the ids of the next
            assertTrue(chunks.dropLast(1).all { it.finishReason == null && it.stats == null })
            assertEquals(FinishReason.STOP, chunks.last().finishReason)
            assertEquals(8, chunks.last().stats!!.generatedTokens)
        }
    }

    @Test
    fun `the limit on new tokens ends an answer and shows an unfinished character as one replacement`() = runTest {
        load(FakeEngine.saying("né")).use { model ->
            val answer = model.newSession().respond("Hi", GenerateOptions(maxNewTokens = 2))
            assertEquals("n\uFFFD", answer.text)
            assertEquals(FinishReason.LENGTH, answer.finishReason)
        }
    }

    @Test
    fun `an answer stops when the context is full, and its last token was still chosen`() = runTest {
        load(FakeEngine.endless()).use { model ->
            val answer = model.generate("12345", GenerateOptions(maxNewTokens = 1000)).toList()
            assertEquals(FinishReason.CONTEXT_FULL, answer.last().finishReason)
            assertEquals(TestBundle.CONTEXT - 5 + 1, answer.sumOf { it.ids.size })
        }
    }

    @Test
    fun `a prompt that does not fit is refused with both sizes before the engine is used`() = runTest {
        val engine = FakeEngine.endless()
        load(engine).use { model ->
            val error = assertFailsWith<SatchelException.ContextSizeExceeded> { model.respond("x".repeat(65)) }
            assertEquals(listOf(64, 65), listOf(error.contextSize, error.tokenCount))
            assertEquals(0, engine.steps.get())
        }
    }

    @Test
    fun `an empty prompt is refused`() = runTest {
        load(FakeEngine.endless()).use { assertFailsWith<IllegalArgumentException> { it.respond("") } }
    }

    @Test
    fun `special tokens count in a raw prompt and are plain text in a session`() = runTest {
        val fed = ArrayList<List<Int>>()
        val engine = FakeEngine { tokens -> TestBundle.END.also { fed += tokens.toList() } }
        load(engine).use { model ->
            model.respond("<user>")
            model.newSession().respond("<user>")
        }
        val text = "<user>".map { it.code }
        assertEquals(listOf(TestBundle.USER), fed.first())
        assertEquals(listOf(TestBundle.USER) + text + listOf(TestBundle.END, TestBundle.ASSISTANT), fed.last())
    }

    @Test
    fun `nothing runs before a flow is collected, and each collection generates anew`() = runTest {
        val engine = FakeEngine.saying("ab")
        load(engine).use { model ->
            val answer = model.generate("hi<assistant>")
            assertEquals(0, engine.steps.get())
            assertEquals(answer.toList().map { it.text }, answer.toList().map { it.text })
            assertTrue(engine.steps.get() > 0)
        }
    }

    @Test
    fun `the engine goes on by one step while a collector has a chunk`() = runTest {
        val engine = FakeEngine.endless()
        var chunks = 0
        load(engine).use { model ->
            model.generate("hi", GenerateOptions(maxNewTokens = 20)).collect { chunk ->
                if (chunk.finishReason != null) return@collect
                val expected = minOf(++chunks + 2, 20) // a chunk comes when the token behind it is there
                engine.awaitSteps(expected)
                Thread.sleep(5)
                assertEquals(expected, engine.steps.get())
            }
        }
        assertEquals(19, chunks)
    }

    @Test
    fun `what was computed ahead of a collector who stops is not part of the answer, nor of what is remembered`() =
        runTest {
            val engine = FakeEngine.endless()
            load(engine).use { model ->
                val session = model.newSession()
                val answer = session.streamResponse("a").onEach {
                    engine.awaitSteps(3)
                    session.stop()
                }.toList()
                assertEquals(3, engine.steps.get())
                assertEquals(listOf("x", "x"), answer.map { it.text })
                assertEquals(FinishReason.CANCELLED, answer.last().finishReason)
                // User, a, end, assistant, x; not the second x, which was fed ahead.
                assertEquals(5, session.respond("b", GenerateOptions(maxNewTokens = 1)).stats!!.cachedTokens)
            }
        }

    @Test
    fun `a failure ahead of a collector who stops is not heard of`() = runTest {
        val failed = CountDownLatch(1)
        val engine = FakeEngine { fed -> if (fed.size > 5 && failed.count > 0) fail(failed) else 'x'.code }
        load(engine).use { model ->
            val session = model.newSession()
            val answer = session.streamResponse("a").onEach {
                assertTrue(failed.await(10, TimeUnit.SECONDS))
                session.stop()
            }.toList()
            assertEquals(listOf("x", "x"), answer.map { it.text })
            assertEquals(FinishReason.CANCELLED, answer.last().finishReason)
        }
    }

    private fun fail(failed: CountDownLatch): Int {
        failed.countDown()
        error("broken")
    }

    @Test
    fun `a failure ahead of the collector comes behind the chunk that it has`() = runTest {
        val engine = FakeEngine { fed -> if (fed.size > 4) error("broken") else 'x'.code }
        load(engine).use { model ->
            val seen = StringBuilder()
            val error = assertFailsWith<IllegalStateException> { model.generate("hi").collect { seen.append(it.text) } }
            assertEquals("broken", error.message)
            assertEquals("xx", seen.toString())
        }
    }

    @Test
    fun `a session remembers its completed turns`() = runTest {
        val prompts = ArrayList<Int>()
        val engine = FakeEngine { tokens -> TestBundle.END.also { prompts += tokens.size } }
        load(engine).use { model ->
            val session = model.newSession("Be brief.")
            session.respond("a")
            session.respond("b")
        }
        // Instructions and end; user, a, end; assistant - then the answer's end, and the second turn alike.
        val first = 10 + 3 + 1
        assertEquals(listOf(first, first + 1 + 3 + 1), prompts.filter { it % TestBundle.CHUNK != 0 })
    }

    @Test
    fun `a turn that its collector leaves early is forgotten, and the session goes on at once`() = runTest {
        val engine = FakeEngine.saying("abcdef")
        load(engine).use { model ->
            val session = model.newSession()
            assertEquals("a", session.streamResponse("one").first().text)
            // An alternating template would refuse this turn if the first were remembered without its answer.
            assertEquals("abcdef", session.respond("two").text)
        }
    }

    @Test
    fun `a second request on a busy session fails at once`() = runTest {
        load(FakeEngine.saying("abc")).use { model ->
            val session = model.newSession()
            session.streamResponse("one").collect {
                assertFailsWith<IllegalStateException> { session.respond("two") }
            }
        }
    }

    @Test
    fun `the same seed gives the same tokens and another one does not`() = runTest {
        load(FakeEngine.endless()).use { model ->
            suspend fun ids(seed: Long?) = model.respond("x", GenerateOptions(temperature = 2.0, seed = seed)).ids
            assertEquals(ids(1), ids(1))
            assertTrue(ids(1) != ids(2))
            assertTrue(ids(null) != ids(null))
        }
    }

    @Test
    fun `options out of range are refused with the value`() {
        assertContains(assertFailsWith<IllegalArgumentException> { GenerateOptions(maxNewTokens = 0) }.message!!, "0")
        for (temperature in listOf(-0.1, 100.5, Double.NaN)) {
            assertFailsWith<IllegalArgumentException> { GenerateOptions(temperature = temperature) }
        }
    }

    @Test
    fun `after close everything fails as misuse, and closing again does nothing`() = runTest {
        val engine = FakeEngine.saying("a")
        val model = load(engine)
        val session = model.newSession()
        model.close()
        model.close()
        assertEquals(1, engine.closed.get())
        assertFailsWith<IllegalStateException> { model.respond("x") }
        assertFailsWith<IllegalStateException> { session.respond("x") }
    }

    @Test
    fun `a model may be closed while its answer is collected`() = runBlocking {
        val engine = FakeEngine.endless()
        val model = load(engine)
        val error = assertFailsWith<IllegalStateException> {
            model.generate("x").collect { model.close() }
        }
        assertContains(error.message!!, "closed")
        assertEquals(listOf(1, 0), listOf(engine.closed.get(), engine.misuse.get()))
    }

    @Test
    fun `logits that no token can be drawn from are the runtime's failure`() = runTest {
        val broken = object : TokenEngine by FakeEngine.endless() {
            override fun forward(tokens: IntArray, position: Int) = FloatArray(vocabSize) { Float.NaN }
        }
        val factory = object : TokenEngineFactory {
            override val backend = "fake"
            override val runtimeVersion = "1.5.0"

            override fun open(program: File, threads: Int) = broken
        }
        SatchelModel.load(TestBundle.write(folder), 0, listOf(factory)).use { model ->
            assertContains(assertFailsWith<SatchelException.RuntimeFailure> { model.respond("x") }.detail, "token 0")
        }
    }

    @Test
    fun `a model without a chat template takes raw prompts only`() = runTest {
        TestBundle.write(folder, prompt = """{"schema_version": 1, "kind": "raw"}""")
        SatchelModel.load(folder, 0, FakeEngine.saying("a").asFactory()).use { model ->
            assertContains(assertFailsWith<IllegalStateException> { model.newSession() }.message!!, "raw")
            assertEquals("a", model.respond("<assistant>").text)
        }
    }

    @Test
    fun `a piece of an answer has no reason and no statistics before the end`() = runTest {
        load(FakeEngine.saying("abc")).use { model ->
            val first = model.newSession().streamResponse("x").first()
            assertNull(first.finishReason)
            assertNull(first.stats)
        }
    }
}
