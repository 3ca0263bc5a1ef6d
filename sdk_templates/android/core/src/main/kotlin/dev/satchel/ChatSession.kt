package dev.satchel

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicBoolean

/**
 * One conversation with a model: it remembers the turns that were completed.
 *
 * A turn that failed or whose collector left leaves no trace, and the session can be used again at once. What the model
 * still remembers of the conversation is not read again: of a new turn's prompt only the part that differs is.
 */
public class ChatSession internal constructor(
    private val model: SatchelModel,
    private val program: PromptProgram,
    history: ChatHistory,
) {
    private val isBusy = AtomicBoolean(false)

    @Volatile
    private var isStopping = false

    private var droppedTurns = 0 // touched only while busy

    /** The turns that were completed so far, to show, or to keep and pass to [SatchelModel.newSession] later. */
    @Volatile
    public var history: ChatHistory = history
        private set

    /**
     * Answers [prompt] as the user's next turn.
     *
     * Nothing runs until the flow is collected; each collection is a turn of its own. Cancelling the collector stops
     * after the step that runs: one chunk of the prompt, or one token.
     *
     * While it is collected, the flow throws [IllegalStateException] if the session is answering already or its model
     * is closed, [IllegalArgumentException] if the model's chat template can't take these turns or the options name a
     * token that the model does not have, [SatchelException.ContextSizeExceeded] if the conversation no longer fits and
     * [SatchelException.RuntimeFailure] if the runtime fails.
     */
    public fun streamResponse(prompt: String, options: GenerateOptions = GenerateOptions()): Flow<TextChunk> = flow {
        whileBusy {
            isStopping = false
            val user = Turn(Turn.USER, prompt)
            val answer = StringBuilder()
            var saidSomething = false
            model.generate(options, { isStopping }) { maxNewTokens -> fitting(user, options, maxNewTokens) }
                .collect { chunk ->
                    answer.append(chunk.text)
                    saidSomething = saidSomething || chunk.ids.isNotEmpty()
                    val reason = chunk.finishReason
                    if (reason != null && (saidSomething || reason in ALWAYS_KEPT)) {
                        remember(prompt, answer.toString()) // before the collector sees the end: it may leave there
                    }
                    emit(chunk)
                }
        }
    }

    /**
     * Collects [streamResponse] into one chunk with the whole answer.
     *
     * @throws IllegalStateException if the session is answering already or its model is closed
     * @throws IllegalArgumentException if the model's chat template can't take these turns, or the options name a token
     * that the model does not have
     * @throws SatchelException.ContextSizeExceeded if the conversation no longer fits
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public suspend fun respond(prompt: String, options: GenerateOptions = GenerateOptions()): TextChunk =
        streamResponse(prompt, options).joined()

    /**
     * [streamResponse] for languages without coroutines.
     *
     * @param executor runs [callback], such as `context.getMainExecutor()` on Android
     * @return ends it early: [callback] then hears nothing more
     */
    public fun streamResponse(
        prompt: String,
        options: GenerateOptions,
        executor: Executor,
        callback: TextCallback,
    ): Cancellable = streamResponse(prompt, options).deliver(executor, callback)

    /**
     * Ends the answer that is being streamed after the step that runs, with [FinishReason.CANCELLED]; what was said
     * stays a turn. Does nothing when no answer is being streamed. Returns at once, from any thread.
     */
    public fun stop() {
        isStopping = true
    }

    /**
     * Reads what is known of the next prompt (instructions and turns so far), so that its answer starts sooner. Call it
     * when a person is about to type.
     *
     * @throws IllegalStateException if the session is answering already or its model is closed
     * @throws IllegalArgumentException if the model's chat template can't take these turns
     * @throws SatchelException.RuntimeFailure if the runtime fails
     */
    public suspend fun prewarm() {
        whileBusy {
            model.prewarm {
                val one = encode(Turn(Turn.USER, "a"), droppedTurns)
                val other = encode(Turn(Turn.USER, "b"), droppedTurns)
                val common = one.indices.firstOrNull { it >= other.size || one[it] != other[it] } ?: one.size
                one.copyOf(minOf(common, model.contextLength))
            }
        }
    }

    private inline fun whileBusy(body: () -> Unit) {
        check(isBusy.compareAndSet(false, true)) { "This session is answering already: one request at a time" }
        try {
            body()
        } finally {
            isBusy.set(false)
        }
    }

    private fun remember(prompt: String, answer: String) {
        val turn = listOf(ChatTurn(ChatTurn.Role.USER, prompt), ChatTurn(ChatTurn.Role.ASSISTANT, answer))
        history = ChatHistory(history.instructions, history.turns + turn)
    }

    /** The prompt's ids; of a conversation that does not fit without its oldest turns, if the options say so. */
    private fun fitting(user: Turn, options: GenerateOptions, maxNewTokens: Int): IntArray {
        var low = droppedTurns
        var ids = encode(user, low)
        val limit = model.contextLength - minOf(maxNewTokens, model.contextLength / ROOM_FOR_ANSWER)
        if (options.contextPolicy == ContextPolicy.DROP_OLDEST_TURNS && ids.size > limit) {
            var high = history.turns.size / 2
            while (low < high) {
                val middle = (low + high) / 2
                if (encode(user, middle).size <= limit) high = middle else low = middle + 1
            }
            ids = encode(user, low)
        }
        if (ids.size > model.contextLength) {
            throw SatchelException.ContextSizeExceeded(model.contextLength, ids.size)
        }
        droppedTurns = low
        return ids
    }

    private fun encode(user: Turn, dropped: Int): IntArray {
        val history = history
        val turns = ArrayList<Turn>()
        if (history.instructions != null) turns += Turn(Turn.SYSTEM, history.instructions)
        for (turn in history.turns.drop(2 * dropped)) turns += Turn(turn.role.name.lowercase(), turn.text)
        return program.encode(model.tokenizer, turns + user, answer = true)
    }

    private companion object {
        private const val ROOM_FOR_ANSWER = 4
        val ALWAYS_KEPT = setOf(FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTEXT_FULL)
    }
}
