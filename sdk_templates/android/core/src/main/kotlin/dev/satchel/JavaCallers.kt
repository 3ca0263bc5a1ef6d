package dev.satchel

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.future.future
import kotlinx.coroutines.launch
import java.util.concurrent.CompletableFuture
import java.util.concurrent.Executor

/** Hears of one generation, for languages without coroutines: [onText] any number of times, then one of the others. */
public interface TextCallback {
    /** A piece of the answer; append its text to what came before. The last piece, which may have no text, included. */
    public fun onText(chunk: TextChunk)

    /** The answer is complete; [last] has the reason and the statistics. */
    public fun onFinished(last: TextChunk) {}

    /** There is no complete answer: [error] is what the flow throws, or what [onText] or [onFinished] threw. */
    public fun onFailed(error: Throwable)
}

/** Something that runs and can be ended. */
public fun interface Cancellable {
    /** Ends it after the step that runs. Returns at once; a second call does nothing. */
    public fun cancel()
}

/** Collects this flow on [executor] into [callback]. */
internal fun Flow<TextChunk>.deliver(executor: Executor, callback: TextCallback): Cancellable {
    val job = CoroutineScope(executor.asCoroutineDispatcher()).launch {
        try {
            collect { chunk ->
                callback.onText(chunk)
                if (chunk.finishReason != null) callback.onFinished(chunk)
            }
        } catch (e: CancellationException) {
            throw e
        } catch (e: Throwable) {
            callback.onFailed(e)
        }
    }
    return Cancellable { job.cancel() }
}

/** Runs [body] at once, in the background. Cancelling the future cancels it. */
internal fun <T> inBackground(body: suspend () -> T): CompletableFuture<T> =
    CoroutineScope(Dispatchers.Default).future { body() }
