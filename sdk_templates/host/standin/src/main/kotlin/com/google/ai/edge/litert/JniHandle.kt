package com.google.ai.edge.litert

import java.util.concurrent.atomic.AtomicBoolean

/** What stands for an object of the native library. */
public abstract class JniHandle internal constructor(
    internal val handle: Long,
) : AutoCloseable {
    private val destroyed = AtomicBoolean(false)

    /** @throws IllegalStateException after [close] */
    protected fun assertNotDestroyed(): Unit = check(!destroyed.get()) { "The handle has been destroyed." }

    /** The native object. On a device a closed one is passed on; here it is refused, so that a test finds the mistake. */
    internal fun live(): Long {
        assertNotDestroyed()
        return handle
    }

    protected abstract fun destroy()

    final override fun close() {
        if (destroyed.compareAndSet(false, true)) destroy()
    }
}
