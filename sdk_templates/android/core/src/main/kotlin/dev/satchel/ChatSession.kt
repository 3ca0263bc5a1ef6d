package dev.satchel

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import java.util.concurrent.atomic.AtomicBoolean

/**
 * One conversation with a model: it remembers the turns that were completed.
 *
 * A turn that was cancelled or failed leaves no trace, and the session can be used again at once.
 */
public class ChatSession internal constructor(
    private val model: SatchelModel,
    private val program: PromptProgram,
    instructions: String?,
) {
    private val busy = AtomicBoolean(false)
    private val turns = ArrayList<Turn>() // touched only while busy

    init {
        if (instructions != null) turns += Turn(Turn.SYSTEM, instructions)
    }

    /**
     * Answers [prompt] as the user's next turn.
     *
     * Nothing runs until the flow is collected; each collection is a turn of its own. Cancelling the collector stops
     * after the step that runs.
     *
     * While it is collected, the flow throws [IllegalStateException] if the session is answering already or its model
     * is closed, [IllegalArgumentException] if the model's chat template can't take these turns,
     * [SatchelException.ContextSizeExceeded] if the conversation no longer fits and [SatchelException.RuntimeFailure]
     * if the runtime fails.
     */
    public fun streamResponse(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<TextChunk> = flow {
        check(busy.compareAndSet(false, true)) { "This session is answering already: one request at a time" }
        try {
            val conversation = turns + Turn(Turn.USER, prompt)
            val answer = StringBuilder()
            model.generate(options) { program.encode(model.tokenizer, conversation, answer = true) }.collect { chunk ->
                answer.append(chunk.text)
                if (chunk.finishReason != null) { // before the collector sees the end: it may stop right there
                    turns += conversation.last()
                    turns += Turn(Turn.ASSISTANT, answer.toString())
                }
                emit(chunk)
            }
        } finally {
            busy.set(false)
        }
    }

    /**
     * Collects [streamResponse] into one chunk with the whole answer.
     *
     * @throws IllegalStateException if the session is answering already or its model is closed
     * @throws IllegalArgumentException if the model's chat template can't take these turns
     * @throws SatchelException.ContextSizeExceeded if the conversation no longer fits
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public suspend fun respond(prompt: String, options: GenerateOptions = GenerateOptions()): TextChunk =
        streamResponse(prompt, options).joined()
}
