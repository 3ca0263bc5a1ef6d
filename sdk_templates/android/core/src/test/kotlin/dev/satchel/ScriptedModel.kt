package dev.satchel

import kotlinx.serialization.json.JsonObject

/** A model whose engine answers what a conformance case says, and whose clock moves when the engine is called. */
internal class ScriptedModel(
    override val contextLength: Int,
    override val prefillChunk: Int,
    stopId: Int,
    program: PromptProgram? = null,
    private val secondsPerCall: Double = 0.0,
) : TokenEngine {
    constructor(case: JsonObject, stopId: Int) : this(case.int("context_length"), case.int("prefill_chunk"), stopId)

    val tokenizer = ConformanceCases.tokenizers.getValue("chat")
    override val vocabSize = tokenizer.vocabSize

    var prompt = 0
    var answer = emptyList<Int>()

    /** Logits instead of those of the answer, by how many ids were said. */
    var instead: (Int) -> Float? = { null }
    val calls = ArrayList<List<Int>>()
    private var seconds = 0.0

    val model = SatchelModel(
        Manifest.parse(
            """{"schema_version": 1, "model": {"id": "m"}, "recipe": "r", "backend": "b", "artifacts": [],
                "context_length": $contextLength, "prefill_chunk": $prefillChunk,
                "vocab_size": $vocabSize, "special_ids": {"stop": [$stopId]},
                "generation_defaults": {"temperature": 0, "max_new_tokens": 256},
                "requires": {"sdk": "0.1.0", "runtime": "1.5.0"}}""",
        ),
        tokenizer,
        program,
        this,
        clock = { (seconds * 1e9).toLong() },
    )

    override fun forward(tokens: IntArray, position: Int): FloatArray {
        calls += listOf(tokens.size, position)
        seconds += secondsPerCall
        val said = position + tokens.size - prompt
        instead(said)?.let { bad -> return FloatArray(vocabSize) { bad } }
        return FloatArray(vocabSize).also { it[answer[said.coerceIn(0, answer.size - 1)]] = 1f }
    }

    override fun close() = Unit

    companion object {
        /** The prompt programs that cases name. */
        fun program(name: String): PromptProgram = PromptProgram.parse(
            ConformanceCases.file("prompt.json").getValue("programs").let {
                it as JsonObject
            }.getValue(name).toString(),
        )
    }
}
