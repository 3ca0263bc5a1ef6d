package dev.satchel

import com.sun.management.ThreadMXBean
import java.lang.management.ManagementFactory
import java.nio.ByteBuffer
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.hours

/** What the decode loop allocates for each token. */
class AllocationTest {
    private val threads = ManagementFactory.getThreadMXBean() as ThreadMXBean

    /** Says [id] for ever, and allocates nothing for it. */
    private class Monotone(
        id: Int,
    ) : TokenEngine {
        override val vocabSize = TestBundle.VOCABULARY
        override val contextLength = 20_000
        override val prefillChunk = 8
        private val logits = FloatArray(vocabSize).also { it[id] = 1f }

        override fun forward(tokens: IntArray, position: Int) = logits

        override fun close() = Unit
    }

    /** Bytes that [tokens] more tokens, each of them [id], take; the loop is warm before it is measured. */
    private fun allocated(id: Int, tokens: Int, options: GenerateOptions): Long {
        val memory = EngineMemory(Monotone(id))
        val prompt = intArrayOf(1, 2, 3)
        val generation = Generation(
            memory = memory,
            tokenizer = Tokenizer(ByteBuffer.wrap(TestBundle.tokenizer())),
            prompt = prompt,
            sampler = Sampler(options, options.temperature ?: 0.0, 1, memory.engine.vocabSize, prompt),
            stopIds = intArrayOf(TestBundle.END),
            maxNewTokens = WARM + tokens,
            options = options,
            clock = System::nanoTime,
            startedNanos = System.nanoTime(),
            isStopped = { false },
        )
        val thread = Thread.currentThread().id
        var seen = 0
        var start = 0L
        // Called before every forward: after so many it looks at what was allocated from there.
        val proceed = { if (++seen == WARM) start = threads.getThreadAllocatedBytes(thread) }
        while (generation.next(proceed).finishReason == null) Unit
        return threads.getThreadAllocatedBytes(thread) - start
    }

    private val everyOption = GenerateOptions(
        temperature = 0.8,
        topK = 50,
        topP = 0.95,
        minP = 0.01,
        repetitionPenalty = 1.1,
        presencePenalty = 0.1,
        frequencyPenalty = 1e-4,
        logitBias = mapOf(3 to -1.0, TestBundle.USER to 100.0),
        timeout = 1.hours,
        seed = 1,
    )

    @Test
    fun `a token that shows no text takes no memory`() {
        for (options in listOf(GenerateOptions(), everyOption, GenerateOptions(stopStrings = listOf("end")))) {
            val few = allocated(TestBundle.USER, 1_000, options)
            val many = allocated(TestBundle.USER, 9_000, options)
            // The list of ids that are not shown yet doubles now and then; the last chunk copies it.
            val ids = 4L * 3 * (WARM + 9_000)
            assertTrue(many - few <= ids, "8000 tokens took ${many - few} bytes, their ids at most $ids")
        }
    }

    @Test
    fun `a token that shows text takes its chunk`() {
        val few = allocated('x'.code, 1_000, GenerateOptions())
        val many = allocated('x'.code, 9_000, GenerateOptions())
        val each = (many - few) / 8_000
        assertTrue(each in 1..MOST_FOR_A_CHUNK, "a token took $each bytes")
    }

    @Test
    fun `the measurement sees a single object`() {
        val thread = Thread.currentThread().id
        val before = threads.getThreadAllocatedBytes(thread)
        val kept = IntArray(1_000)
        assertTrue(threads.getThreadAllocatedBytes(thread) - before >= 4_000)
        assertEquals(1_000, kept.size)
    }

    private companion object {
        const val WARM = 2_000

        /** A chunk, its text of one character and its list of one id. */
        const val MOST_FOR_A_CHUNK = 200L
    }
}
