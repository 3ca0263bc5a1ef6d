package dev.satchel.host

import dev.satchel.Tokenizer
import java.io.BufferedInputStream
import java.io.DataInputStream
import java.io.File
import java.io.InputStream
import kotlin.system.exitProcess

/** Holds a tokenizer.bin against another implementation's results, and measures it. */
internal object Tokenize {
    /**
     * `Tokenize compare TOKENIZER` reads cases from standard input, all numbers big endian: int32 special (0 or 1),
     * int32 n and n bytes of text in UTF-8, int32 n and n ids, int32 skip special (0 or 1), int32 n and n bytes of the
     * text that the ids decode to. A case whose text is marked with n = -1 is only decoded. It prints the number of
     * cases that are equal, and ends with 1 at the first that is not.
     *
     * `Tokenize measure TOKENIZER TEXT` prints milliseconds to open the file, and megabytes encoded a second.
     */
    @JvmStatic
    fun main(arguments: Array<String>) {
        val line = CommandLine(arguments, emptySet())
        val file = File(line.positional(1, "TOKENIZER"))
        when (val what = line.positional(0, "compare or measure")) {
            "compare" -> println(Comparison(Tokenizer.open(file), System.`in`).run())
            "measure" -> measure(file, File(line.positional(2, "TEXT")).readText())
            else -> throw IllegalArgumentException("$what is unknown; there are compare and measure")
        }
    }

    private fun measure(file: File, text: String) {
        val bytes = text.encodeToByteArray().size
        val opened = List(RUNS) { milliseconds { Tokenizer.open(file) } }
        val tokenizer = Tokenizer.open(file)
        val encoded = List(RUNS) { milliseconds { tokenizer.encode(text, special = false) } }
        println("open_first_ms ${opened.first()}")
        println("open_ms ${opened.sorted()[RUNS / 2]}")
        println("encode_mb_per_s ${bytes / encoded.sorted()[RUNS / 2] / 1000}")
        println("tokens ${tokenizer.encode(text, special = false).size}")
    }

    private inline fun milliseconds(work: () -> Unit): Double {
        val start = System.nanoTime()
        work()
        return (System.nanoTime() - start) / 1e6
    }

    private const val RUNS = 9
}

private class Comparison(
    private val tokenizer: Tokenizer,
    input: InputStream,
) {
    private val input = DataInputStream(BufferedInputStream(input, 1 shl 16))

    /** The number of cases. Ends the process at the first difference. */
    fun run(): Int {
        var equal = 0
        while (true) {
            val special = this.input.read4() ?: return equal
            val text = readText()
            val ids = IntArray(input.readInt()) { input.readInt() }
            val skipSpecial = input.readInt() != 0
            val decoded = readText()
            if (text != null) require(text, tokenizer.encode(text, special != 0).toList(), ids.toList())
            require(ids.toList(), tokenizer.decode(ids, skipSpecial), decoded)
            equal++
        }
    }

    private fun require(what: Any, ours: Any, theirs: Any?) {
        if (ours != theirs) {
            System.err.println("$what gives $ours, not $theirs")
            exitProcess(1)
        }
    }

    private fun readText(): String? {
        val size = input.readInt()
        return if (size < 0) null else ByteArray(size).also(input::readFully).decodeToString()
    }

    /** A number, or null at the end of the input. */
    private fun DataInputStream.read4(): Int? {
        val first = read()
        if (first < 0) return null
        return (first shl 24) or (readUnsignedByte() shl 16) or readUnsignedShort()
    }
}
