package com.google.ai.edge.litert

/** Configuration that models may share. On the host each model has its own, inside the native library. */
public class Environment private constructor() : JniHandle(0) {
    override fun destroy(): Unit = Unit

    public companion object {
        @JvmStatic
        public fun create(): Environment = Environment()
    }
}
