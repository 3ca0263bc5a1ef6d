package dev.satchel.host

import dev.satchel.SatchelException
import dev.satchel.TokenEngine
import java.io.BufferedInputStream
import java.io.BufferedOutputStream
import java.io.DataInputStream
import java.io.EOFException
import java.io.File
import java.io.FileDescriptor
import java.io.FileOutputStream
import java.io.InputStream
import java.io.OutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.system.exitProcess

/**
 * Serves a bundle's engine to another process over standard input and output, so that the code that runs on a device
 * can be measured from outside. Everything is little endian:
 *
 *  - once, at the start: int32 [MAGIC], int32 vocabulary, int32 context length, int32 prefill chunk;
 *  - request: int32 n, int32 position, n times int64 token id; n = 0 ends the server;
 *  - reply: int32 0 and vocabulary times float32, or int32 1, int32 length and an error message in UTF-8.
 */
internal class EngineServer(
    private val engine: TokenEngine,
    input: InputStream,
    output: OutputStream,
) {
    private val input = DataInputStream(BufferedInputStream(input))
    private val output = BufferedOutputStream(output)

    /** Answers until the other side asks to end or is gone. */
    fun serve() {
        writeInts(MAGIC, engine.vocabSize, engine.contextLength, engine.prefillChunk)
        try {
            while (answer()) output.flush()
        } catch (_: EOFException) {
            return // the other process ended without saying so
        }
    }

    private fun answer(): Boolean {
        val count = readInt()
        if (count == 0) return false
        val position = readInt()
        if (count !in 1..MAX_REQUEST) error("A request has $count tokens: the streams are out of step")
        val tokens = LongArray(count).also { array -> readBytes(8 * count).asLongBuffer().get(array) }
        try {
            // A token that is no Int is out of range for every vocabulary; -1 stands for it.
            val ids = IntArray(count) { if (tokens[it] in 0..Int.MAX_VALUE) tokens[it].toInt() else -1 }
            writeLogits(engine.forward(ids, position))
        } catch (e: SatchelException) {
            writeError(e)
        } catch (e: IllegalArgumentException) {
            writeError(e)
        }
        return true
    }

    private fun writeLogits(logits: FloatArray) {
        val bytes = buffer(4 + 4 * logits.size)
        bytes.putInt(OK)
        bytes.asFloatBuffer().put(logits)
        output.write(bytes.array())
    }

    private fun writeError(error: Exception) {
        val text = error.message.orEmpty().encodeToByteArray()
        output.write(buffer(8).putInt(FAILED).putInt(text.size).array())
        output.write(text)
    }

    private fun writeInts(vararg values: Int) {
        val bytes = buffer(4 * values.size)
        values.forEach(bytes::putInt)
        output.write(bytes.array())
        output.flush()
    }

    private fun readInt(): Int = readBytes(4).getInt()

    private fun readBytes(count: Int): ByteBuffer = buffer(count).also { input.readFully(it.array()) }

    private fun buffer(bytes: Int): ByteBuffer = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN)

    internal companion object {
        const val MAGIC = 0x53415431
        private const val OK = 0
        private const val FAILED = 1
        private const val MAX_REQUEST = 1 shl 20

        /** `EngineServer BUNDLE [--threads N]` */
        @JvmStatic
        fun main(arguments: Array<String>) {
            val line = CommandLine(arguments, setOf("threads"))
            // Native code may print: only the protocol goes to the real standard output.
            val output = FileOutputStream(FileDescriptor.out)
            System.setOut(System.err)
            val engine = try {
                TokenEngine.open(File(line.positional(0, "BUNDLE")), line.int("threads") ?: 0)
            } catch (e: SatchelException) {
                System.err.println(e.message)
                exitProcess(1)
            }
            engine.use { EngineServer(it, System.`in`, output).serve() }
        }
    }
}
