package com.google.ai.edge.litert

import java.io.File

/**
 * LiteRT's C functions through JNI (satchel_litert_jni.cpp), which throws [LiteRtException]. Loads its libraries from the
 * folder in the system property `satchel.host.dir`.
 */
internal object Native {
    init {
        val folder = checkNotNull(System.getProperty("satchel.host.dir")) {
            "Set -Dsatchel.host.dir to the folder of the host engine's libraries"
        }
        System.load(File(folder, System.mapLibraryName("satchel_litert_jni")).absolutePath)
    }

    @JvmStatic
    external fun open(path: ByteArray, threads: Int): Long

    @JvmStatic
    external fun close(model: Long)

    @JvmStatic
    external fun createBuffer(model: Long, signature: String, name: String, output: Boolean): Long

    @JvmStatic
    external fun freeBuffer(buffer: Long)

    @JvmStatic
    external fun writeInt(buffer: Long, data: IntArray)

    @JvmStatic
    external fun writeFloat(buffer: Long, data: FloatArray)

    @JvmStatic
    external fun readInt(buffer: Long): IntArray

    @JvmStatic
    external fun readFloat(buffer: Long): FloatArray

    @JvmStatic
    external fun run(
        model: Long,
        signature: String,
        inputNames: Array<String>,
        inputs: LongArray,
        outputNames: Array<String>,
        outputs: LongArray,
    )
}
