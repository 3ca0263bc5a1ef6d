package dev.satchel

/**
 * Hears of every generation of a model, for measurements: set it as [SatchelModel.listener].
 *
 * After [started] comes exactly one of [finished] and [failed], on the thread of whoever collects the answer; so they
 * must be fast. What they throw is swallowed and harms no generation.
 */
public interface GenerationListener {
    /** The prompt has [promptTokens] tokens, of which the model still remembers the first [cachedTokens]. */
    public fun started(promptTokens: Int, cachedTokens: Int) {}

    /** An answer is complete. Called before its collector sees the last chunk. */
    public fun finished(reason: FinishReason, stats: GenerationStats) {}

    /** An answer failed with [error], or its collector left: then it is a `CancellationException`. */
    public fun failed(error: Throwable) {}
}

/** Calls [event] of this listener, if there is one, whatever that does. */
internal inline fun GenerationListener?.notify(event: GenerationListener.() -> Unit) {
    try {
        this?.event()
    } catch (_: Throwable) {
        return // measuring must not break what it measures
    }
}
