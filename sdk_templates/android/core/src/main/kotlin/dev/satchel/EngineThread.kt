package dev.satchel

import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import java.util.concurrent.ExecutionException
import java.util.concurrent.FutureTask
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.ThreadPoolExecutor
import java.util.concurrent.TimeUnit

/**
 * Owns a [TokenEngine]: one thread at a time touches it, one generation at a time uses it, and closing waits for the
 * step that runs.
 */
internal class EngineThread(
    private val engine: TokenEngine,
) {
    // Never shut down, so that no task is ever rejected; the thread ends by itself when nothing comes.
    private val executor =
        ThreadPoolExecutor(1, 1, IDLE_SECONDS, TimeUnit.SECONDS, LinkedBlockingQueue()) { task ->
            Thread(task, "satchel-engine").apply { isDaemon = true }
        }.apply { allowCoreThreadTimeOut(true) }
    private val dispatcher = executor.asCoroutineDispatcher()
    private val generations = Mutex()

    @Volatile
    private var closing: FutureTask<Unit>? = null

    /** Runs [body] while no other generation runs; others wait for their turn. */
    suspend fun <T> exclusively(body: suspend () -> T): T {
        requireOpen()
        return generations.withLock {
            requireOpen()
            body()
        }
    }

    /**
     * Runs one step on the engine's thread. A step can't be interrupted: a cancelled caller waits for its end.
     *
     * @throws IllegalStateException if the engine is closed
     */
    suspend fun <T> step(body: (TokenEngine) -> T): T = withContext(dispatcher) {
        requireOpen()
        body(engine)
    }

    /** Lets the running step end, then closes the engine; later steps fail. Idempotent. */
    fun close() {
        val closed = synchronized(this) {
            closing ?: FutureTask { engine.close() }.also { task ->
                closing = task // first, so that no step that comes behind the task finds the engine open
                executor.execute(task)
            }
        }
        try {
            closed.get()
        } catch (e: ExecutionException) {
            throw e.cause ?: e
        }
    }

    fun requireOpen(): Unit = check(closing == null) { "This SatchelModel is closed" }

    private companion object {
        const val IDLE_SECONDS = 2L
    }
}
