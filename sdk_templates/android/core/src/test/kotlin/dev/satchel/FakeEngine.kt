package dev.satchel

import java.io.File
import java.util.concurrent.atomic.AtomicBoolean
import java.util.concurrent.atomic.AtomicInteger

/** An engine that continues what it was fed as [next] says, and fails loudly if it is used against its contract. */
class FakeEngine(
    private val stepMillis: Long = 0,
    private val next: (List<Int>) -> Int,
) : TokenEngine {
    override val vocabSize: Int = TestBundle.VOCABULARY
    override val contextLength: Int = TestBundle.CONTEXT
    override val prefillChunk: Int = TestBundle.CHUNK

    private val inUse = AtomicBoolean(false)
    private val fed = ArrayList<Int>()
    val steps = AtomicInteger(0)
    val closed = AtomicInteger(0)
    val misuse = AtomicInteger(0)

    override fun forward(tokens: IntArray, position: Int): FloatArray {
        TokenEngine.requireInRange(this, tokens, position)
        if (!inUse.compareAndSet(false, true) || closed.get() > 0) misuse.incrementAndGet()
        if (stepMillis > 0) Thread.sleep(stepMillis)
        while (fed.size > position) fed.removeAt(fed.size - 1)
        check(fed.size == position) { "Fed at $position after ${fed.size} tokens" }
        fed += tokens.toList()
        steps.incrementAndGet()
        val logits = FloatArray(vocabSize).also { it[next(fed)] = 1f }
        if (!inUse.compareAndSet(true, false)) misuse.incrementAndGet()
        return logits
    }

    override fun close() {
        if (inUse.get()) misuse.incrementAndGet()
        closed.incrementAndGet()
    }

    /** Gives this engine to the library as the one of the backend `fake`. */
    fun asFactory(): List<TokenEngineFactory> = listOf(
        object : TokenEngineFactory {
            override val backend = "fake"
            override val runtimeVersion = "1.5.0"

            override fun open(program: File, threads: Int) = this@FakeEngine
        },
    )

    companion object {
        /** Answers every prompt with [text] and then ends its turn. */
        fun saying(text: String, stepMillis: Long = 0): FakeEngine {
            val bytes = text.encodeToByteArray().map { it.toInt() and 0xFF }
            return FakeEngine(stepMillis) { fed ->
                val start = fed.lastIndexOf(TestBundle.ASSISTANT) + 1
                bytes.getOrElse(fed.size - start) { TestBundle.END }
            }
        }

        /** Never ends its turn. */
        fun endless(stepMillis: Long = 0): FakeEngine = FakeEngine(stepMillis) { 'x'.code }
    }
}
