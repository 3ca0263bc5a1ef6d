package dev.satchel

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeoutOrNull
import java.util.concurrent.ExecutionException
import java.util.concurrent.FutureTask
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.ThreadPoolExecutor
import java.util.concurrent.TimeUnit
import kotlin.time.Duration

/**
 * Owns a [TokenEngine]: one thread at a time touches it, one generation at a time uses it, and closing waits for the
 * step that runs.
 */
internal class EngineThread(
    private val engine: TokenEngine,
) {
    private val memory = EngineMemory(engine)

    // Never shut down, so that no task is ever rejected; the thread ends by itself when nothing comes.
    private val executor =
        ThreadPoolExecutor(1, 1, IDLE_SECONDS, TimeUnit.SECONDS, LinkedBlockingQueue()) { task ->
            Thread(task, "satchel-engine").apply { isDaemon = true }
        }.apply { allowCoreThreadTimeOut(true) }
    private val dispatcher = executor.asCoroutineDispatcher()
    private val generations = Mutex()

    @Volatile
    private var closing: FutureTask<Unit>? = null

    /**
     * Runs [body] while no other generation runs; others wait for their turn.
     *
     * @param patience how long to wait for the turn, null for as long as it takes
     * @return what [body] gives, or null if the turn did not come in time
     */
    suspend fun <T : Any> exclusively(patience: Duration? = null, body: suspend () -> T): T? {
        requireOpen()
        var isOurs = false
        try {
            if (patience == null) {
                generations.lock()
                isOurs = true
            } else {
                withTimeoutOrNull(patience) {
                    generations.lock()
                    isOurs = true // the time may run out between here and the end of this block
                }
            }
            if (!isOurs) return null
            requireOpen()
            return body()
        } finally {
            if (isOurs) generations.unlock()
        }
    }

    /**
     * Runs [body] on the engine's thread. A forward can't be interrupted: a cancelled caller waits for its end.
     *
     * [body] calls its second argument before every forward; it throws if the caller was cancelled or the engine is to
     * be closed.
     *
     * @throws IllegalStateException if the engine is closed
     */
    suspend fun <T> step(body: (EngineMemory, () -> Unit) -> T): T = withContext(dispatcher) {
        requireOpen()
        body(memory) {
            ensureActive()
            requireOpen()
        }
    }

    /** [body] as a task for [next], which does nothing after [close]. */
    fun task(body: () -> Unit): Runnable = Runnable { if (closing == null) body() }

    /** Runs [task] on the engine's thread as the next thing, without waiting for it. */
    fun next(task: Runnable) {
        executor.execute(task)
    }

    /** Runs [body] on the engine's thread behind all that it was given, also for a cancelled caller; not after [close]. */
    suspend fun settle(body: () -> Unit) {
        withContext(NonCancellable + dispatcher) { if (closing == null) body() }
    }

    /** Lets the running forward end, then closes the engine; later steps fail. Idempotent. */
    fun close() {
        val closed = synchronized(this) {
            closing ?: FutureTask { engine.close() }.also { task ->
                closing = task // first, so that no step that comes behind the task finds the engine open
                executor.execute(task)
            }
        }
        var isInterrupted = false
        try {
            while (true) {
                try {
                    return closed.get()
                } catch (_: InterruptedException) {
                    isInterrupted = true // returning now would let the caller unmap what the engine still reads
                } catch (e: ExecutionException) {
                    throw e.cause ?: e
                }
            }
        } finally {
            if (isInterrupted) Thread.currentThread().interrupt()
        }
    }

    /** Closes when no generation runs; does nothing if that has been done. */
    suspend fun closeWhenIdle() {
        generations.withLock {
            withContext(Dispatchers.IO) { close() } // it blocks
        }
    }

    fun requireOpen(): Unit = check(closing == null) { "This SatchelModel is closed" }

    private companion object {
        const val IDLE_SECONDS = 2L
    }
}
