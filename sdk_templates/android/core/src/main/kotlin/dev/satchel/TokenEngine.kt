package dev.satchel

import java.io.File

/**
 * Runs a model's program: token ids in, logits of the next token out. Everything else (text, sampling, turns) is above.
 *
 * It remembers what was fed before each position. Calls come from one thread at a time.
 */
public interface TokenEngine : AutoCloseable {
    /** Number of token ids; logits have this length. */
    public val vocabSize: Int

    /** Most tokens it can remember. */
    public val contextLength: Int

    /** Most tokens one [forward] takes. */
    public val prefillChunk: Int

    /**
     * Feeds [tokens] at [position] and returns the logits of the token behind the last of them.
     *
     * Whatever was fed at [position] or later before is forgotten. The array is the engine's own and holds until the
     * next call.
     *
     * @param tokens 1 to [prefillChunk] ids, each in 0 until [vocabSize]
     * @param position tokens before these; [position] + the number of tokens is at most [contextLength]
     * @throws IllegalArgumentException if an id, the number of tokens or the position is out of range
     * @throws IllegalStateException after [close]
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public fun forward(tokens: IntArray, position: Int): FloatArray

    /** Frees the program's memory. Idempotent. */
    override fun close()

    /** Opening engines, and what all of them check. */
    public companion object {
        /**
         * Opens the engine of the bundle in [directory] after every byte of it has been compared with the manifest's
         * hashes: for those who bring their own tokens and sampling. Blocks.
         *
         * @param threads number of threads to compute with, 0 for the runtime's own choice
         * @throws SatchelException if the bundle is damaged or can't run here
         */
        public fun open(directory: File, threads: Int = 0): TokenEngine {
            val bundle = Bundle.open(directory)
            bundle.verify { }
            return bundle.openEngine(Bundle.factories(), threads)
        }

        /**
         * Whether [engine] can take these arguments of [forward]. For implementations of it.
         *
         * @throws IllegalArgumentException if an id, the number of tokens or the position is out of range
         */
        public fun requireInRange(engine: TokenEngine, tokens: IntArray, position: Int) {
            require(tokens.size in 1..engine.prefillChunk) {
                "One step takes 1 to ${engine.prefillChunk} tokens, not ${tokens.size}"
            }
            require(position >= 0 && position <= engine.contextLength - tokens.size) {
                "${tokens.size} tokens at position $position leave the context of ${engine.contextLength}"
            }
            for (token in tokens) {
                require(token in 0 until engine.vocabSize) { "There is no token $token of ${engine.vocabSize}" }
            }
        }
    }
}

/** Opens programs of one backend. Implementations are found by [java.util.ServiceLoader]. */
public interface TokenEngineFactory {
    /** The backend's name as bundles have it, such as `executorch`. */
    public val backend: String

    /** The oldest version of the platform's runtime that this engine runs with, such as `1.5.0`. */
    public val runtimeVersion: String

    /** The kinds of processor (Android's names) that the runtime has code for; empty for all. */
    public val abis: Set<String> get() = emptySet()

    /**
     * Opens [program], whose bytes have been verified. Blocks while the program is loaded.
     *
     * @param threads number of threads to compute with, 0 for the runtime's own choice
     * @throws SatchelException.RuntimeFailure if the runtime can't load it
     */
    public fun open(program: File, threads: Int): TokenEngine
}
