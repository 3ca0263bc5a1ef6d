package com.google.ai.edge.litert

/** Memory of one tensor. Reads and writes copy. Numbers of 32 bits only, the types a language model's program has. */
public class TensorBuffer internal constructor(
    handle: Long,
) : JniHandle(handle) {
    /** @throws LiteRtException if [data] is longer than the tensor; a shorter one fills its beginning */
    public fun writeInt(data: IntArray): Unit = Native.writeInt(live(), data)

    /** @throws LiteRtException if [data] is longer than the tensor; a shorter one fills its beginning */
    public fun writeFloat(data: FloatArray): Unit = Native.writeFloat(live(), data)

    public fun readInt(): IntArray = Native.readInt(live())

    public fun readFloat(): FloatArray = Native.readFloat(live())

    override fun destroy(): Unit = Native.freeBuffer(handle)
}
