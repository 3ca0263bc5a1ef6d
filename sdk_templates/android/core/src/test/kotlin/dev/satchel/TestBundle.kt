package dev.satchel

import java.io.ByteArrayOutputStream
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.security.MessageDigest

/** A small bundle in a folder: ids 0 to 255 are bytes, [END] ends a turn, [USER] and [ASSISTANT] open one. */
object TestBundle {
    const val END = 256
    const val USER = 257
    const val ASSISTANT = 258
    const val VOCABULARY = 259
    const val CONTEXT = 64
    const val CHUNK = 8

    val PROMPT =
        """
        {"schema_version": 1, "kind": "chat", "prefix": [], "default_system": [], "generation_prompt": [$ASSISTANT],
         "roles": {"system": {"before": [], "after": [$END], "trim": false},
                   "user": {"before": [$USER], "after": [$END], "trim": true},
                   "assistant": {"before": [$ASSISTANT], "after": [$END], "trim": false}},
         "system": "first", "order": "alternating",
         "special_tokens": {"$END": "<end>", "$USER": "<user>", "$ASSISTANT": "<assistant>"}, "unsupported": []}
        """.trimIndent()

    /** Writes the files and their manifest; [edit] changes the manifest's text. */
    @JvmOverloads
    fun write(
        directory: File,
        program: ByteArray = "a program".encodeToByteArray(),
        prompt: String = PROMPT,
        golden: String? = null,
        edit: (String) -> String = { it },
    ): File {
        directory.mkdirs()
        val files = HashMap(
            mapOf("program" to program, "tokenizer" to tokenizer(), "prompt" to prompt.encodeToByteArray()),
        )
        if (golden != null) files["golden"] = golden.encodeToByteArray()
        val names = mapOf(
            "program" to "model.pte",
            "tokenizer" to "tokenizer.bin",
            "prompt" to "prompt.json",
            "golden" to "golden.json",
        )
        val artifacts = files.map { (role, bytes) ->
            File(directory, names.getValue(role)).writeBytes(bytes)
            """{"role": "$role", "file": "${names[role]}", "bytes": ${bytes.size}, "sha256": "${sha256(bytes)}"}"""
        }
        val manifest =
            """
            {"schema_version": 1, "a_later_field": true, "model": {"id": "tiny"}, "recipe": "float",
             "backend": "fake", "artifacts": [${artifacts.joinToString()},
                 {"role": "slots", "file": "slots.json", "bytes": 1, "sha256": "not shipped to devices"}],
             "context_length": $CONTEXT, "prefill_chunk": $CHUNK, "vocab_size": $VOCABULARY,
             "special_ids": {"bos": null, "stop": [$END]},
             "generation_defaults": {"temperature": 0.0, "max_new_tokens": 20},
             "requires": {"sdk": "0.1.0", "runtime": "1.5.0", "cpu_features": {}}}
            """.trimIndent()
        File(directory, "manifest.json").writeText(edit(manifest))
        return directory
    }

    fun tokenizer(): ByteArray {
        val special = listOf("<end>", "<user>", "<assistant>").map { it.encodeToByteArray() }
        val texts = List(256) { byteArrayOf(it.toByte()) } + special
        val offsets = texts.runningFold(0) { sum, bytes -> sum + bytes.size }
        val sorted = special.indices.sortedBy { special[it].decodeToString() }
        val addedStarts = sorted.map { special[it] }.runningFold(0) { sum, bytes -> sum + bytes.size }
        val added = sorted.flatMapIndexed { index, it -> listOf(END + it, 1, addedStarts[index], special[it].size) }
        val sections = listOf(
            ByteArray(0), // info
            ints(listOf(1, VOCABULARY, -1, 0, 0)), // model: bytes, nothing unknown, no words
            ints(emptyList()), // normalizer
            ints(emptyList()), // pre-tokenizer
            ints(listOf(1, 0, 0)), // decoder: bytes
            ints(listOf(0, 0)), // texts
            ints(listOf(0, 2)), // automata
            ByteArray(2 * 0x1100 + 256), // pages of classes: every code point is of class 0
            byteArrayOf(0), // classes
            ByteArray(VOCABULARY) { if (it < 256) 1 else 7 }, // flags
            ints(offsets),
            texts.reduce(ByteArray::plus),
            ints(List(256) { it }), // ids of bytes
            ints(List(VOCABULARY + 1) { 0 }), // merge rows
            ints(emptyList()), // merges
            ints(listOf(-1)), // words
            ints(added),
            ints(sorted.flatMap { id -> special[id].map(Byte::toInt) }),
            ints(emptyList()), // ids that open a text
            ints(listOf(1, 1, 1, 1, 0)), // grapheme clusters: each character is one
        )
        val kinds = (1..19) + 21 // all but canonical composition
        val body = ByteArrayOutputStream()
        val directory = ArrayList<Int>()
        val bodyStart = 16 + 12 * sections.size
        sections.forEachIndexed { index, bytes ->
            while ((bodyStart + body.size()) % 8 != 0) body.write(0)
            directory += listOf(kinds[index], bodyStart + body.size(), bytes.size)
            body.write(bytes)
        }
        return "SATCHTOK".encodeToByteArray() + ints(listOf(3, sections.size) + directory) + body.toByteArray()
    }

    fun sha256(bytes: ByteArray): String =
        MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }

    private fun ints(values: List<Int>): ByteArray {
        val buffer = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
        values.forEach(buffer::putInt)
        return buffer.array()
    }
}
