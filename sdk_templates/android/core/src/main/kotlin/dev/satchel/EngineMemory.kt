package dev.satchel

/** An engine together with the ids that it remembers: feeding a prompt starts where it differs from them. */
internal class EngineMemory(
    val engine: TokenEngine,
) {
    private val fed = IntArray(engine.contextLength)
    private var count = 0

    val isEmpty: Boolean get() = count == 0

    /** How many of the first ids need not be fed again. The last one always is: its logits are wanted. */
    fun reusable(ids: IntArray): Int {
        val most = minOf(count, ids.size - 1)
        for (index in 0 until most) if (fed[index] != ids[index]) return index
        return most
    }

    /** Remembers nothing of what was fed at [position] or later. */
    fun forget(position: Int) {
        count = minOf(count, position)
    }

    /**
     * Logits after [tokens] at [position]. What was remembered from there on is forgotten, all of it if this fails.
     *
     * @throws IllegalArgumentException if an id, the number of tokens or the position is out of range
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    fun forward(tokens: IntArray, position: Int): FloatArray {
        TokenEngine.requireInRange(engine, tokens, position)
        check(position <= count) { "Feeding at $position after $count tokens leaves a hole" }
        count = 0
        val logits = engine.forward(tokens, position)
        tokens.copyInto(fed, position)
        count = position + tokens.size
        return logits
    }
}
