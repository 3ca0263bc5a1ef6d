package org.pytorch.executorch

import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer

/** The C ABI (satchel_et.h) through JNI. Loads its libraries from the folder in the system property `satchel.host.dir`. */
internal object Native {
    init {
        val folder = checkNotNull(System.getProperty("satchel.host.dir")) {
            "Set -Dsatchel.host.dir to the folder of the host engine's libraries"
        }
        // The kernels first: a method that needs them is resolved when it is loaded.
        System.load(File(folder, System.mapLibraryName("satchel_et_kernels")).absolutePath)
        System.load(File(folder, System.mapLibraryName("satchel_et_jni")).absolutePath)
    }

    fun logText(): String = log().decodeToString()

    @JvmStatic
    external fun open(path: ByteArray, loadMode: Int, threads: Int): Long

    @JvmStatic
    external fun close(handle: Long): Int

    @JvmStatic
    external fun loadMethod(handle: Long, method: ByteArray): Int

    @JvmStatic
    external fun methods(handle: Long): ByteArray?

    @JvmStatic
    external fun backends(handle: Long, method: ByteArray): ByteArray?

    @JvmStatic
    external fun log(): ByteArray

    @JvmStatic
    external fun execute(
        handle: Long,
        method: ByteArray,
        kinds: IntArray,
        scalarTypes: IntArray,
        shapes: Array<LongArray?>,
        buffers: Array<Buffer?>,
        scalars: LongArray,
    ): Int

    @JvmStatic
    external fun outputCount(handle: Long): Int

    @JvmStatic
    external fun outputInfo(handle: Long, index: Int): LongArray?

    @JvmStatic
    external fun outputBuffer(handle: Long, index: Int): ByteBuffer?
}
