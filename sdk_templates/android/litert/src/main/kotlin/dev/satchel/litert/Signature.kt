package dev.satchel.litert

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel

/** One entry point of a program: the shapes of its inputs and outputs by name. */
internal class Signature(
    val name: String,
    val inputs: Map<String, IntArray>,
    val outputs: Map<String, IntArray>,
)

/**
 * The signatures of a `.tflite`, from the file itself: LiteRT's own API answers only for names that are known.
 *
 * The format is a FlatBuffer of TensorFlow Lite's schema; the numbers below are the fields' ids in it.
 *
 * @throws IndexOutOfBoundsException if it is no such file
 */
internal fun readSignatures(program: File): List<Signature> {
    val bytes = program.inputStream().use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.channel.size()) }
    bytes.order(ByteOrder.LITTLE_ENDIAN)
    val model = Table(bytes, bytes.getInt(0))
    val graphs = model.tables(MODEL_SUBGRAPHS)
    return model.tables(MODEL_SIGNATURES).map { signature ->
        val tensors = graphs[signature.int(SIGNATURE_SUBGRAPH)].tables(SUBGRAPH_TENSORS)
        val shapes = { field: Int ->
            signature.tables(field).associate { port ->
                port.string(PORT_NAME) to tensors[port.int(PORT_TENSOR)].ints(TENSOR_SHAPE)
            }
        }
        Signature(signature.string(SIGNATURE_NAME), shapes(SIGNATURE_INPUTS), shapes(SIGNATURE_OUTPUTS))
    }
}

private const val MODEL_SUBGRAPHS = 2
private const val MODEL_SIGNATURES = 7
private const val SUBGRAPH_TENSORS = 0
private const val TENSOR_SHAPE = 0
private const val SIGNATURE_INPUTS = 0
private const val SIGNATURE_OUTPUTS = 1
private const val SIGNATURE_NAME = 2
private const val SIGNATURE_SUBGRAPH = 4
private const val PORT_NAME = 0
private const val PORT_TENSOR = 1

/** A FlatBuffer table at [at]: 32-bit offset back to its list of 16-bit field offsets, 0 for a field left out. */
private class Table(
    private val bytes: ByteBuffer,
    private val at: Int,
) {
    private val fields = at - bytes.getInt(at)

    fun int(field: Int): Int = place(field)?.let(bytes::getInt) ?: 0

    fun string(field: Int): String {
        val start = vector(field) ?: return ""
        return ByteArray(count(start)) { bytes.get(start + 4 + it) }.decodeToString()
    }

    fun ints(field: Int): IntArray {
        val start = vector(field) ?: return IntArray(0)
        return IntArray(count(start)) { bytes.getInt(start + 4 + 4 * it) }
    }

    fun tables(field: Int): List<Table> {
        val start = vector(field) ?: return emptyList()
        return List(count(start)) { index ->
            val element = start + 4 + 4 * index
            Table(bytes, element + bytes.getInt(element))
        }
    }

    private fun count(vector: Int): Int = bytes.getInt(vector).also { count ->
        if (count !in 0..bytes.capacity()) throw IndexOutOfBoundsException("A list of $count elements")
    }

    private fun vector(field: Int): Int? = place(field)?.let { it + bytes.getInt(it) }

    private fun place(field: Int): Int? {
        val entry = 4 + 2 * field
        if (entry >= bytes.getShort(fields)) return null
        return bytes.getShort(fields + entry).takeIf { it != 0.toShort() }?.let { at + (it.toInt() and 0xffff) }
    }
}
