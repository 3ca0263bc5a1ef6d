package dev.satchel.example

import android.content.Context
import dev.satchel.Availability
import dev.satchel.ChatSession
import dev.satchel.ContextPolicy
import dev.satchel.GenerateOptions
import dev.satchel.SatchelException
import dev.satchel.SatchelModel
import dev.satchel.TextChunk
import dev.satchel.android.availability
import dev.satchel.android.load
import kotlinx.coroutines.Job
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.launch

data class Message(
    val fromUser: Boolean,
    val text: String,
)

/** Everything that the screen shows. */
data class ChatState(
    /** The loaded model; null while it loads, and if it can't run. */
    val model: SatchelModel? = null,
    /** Why the model can't run here. */
    val problem: String? = null,
    val messages: List<Message> = emptyList(),
    val answering: Boolean = false,
    /** The last piece of the last answer: it says why the answer ended, and how fast it was. */
    val ending: TextChunk? = null,
    /** Why the last answer failed. */
    val error: String? = null,
)

/** The model and one conversation with it. To be used from the main thread, which it never blocks. */
class Chat(
    context: Context,
) {
    private val scope = MainScope()
    private val states = MutableStateFlow(ChatState())
    private var session: ChatSession? = null
    private var answer: Job? = null

    val state: StateFlow<ChatState> = states.asStateFlow()

    init {
        scope.launch { open(context.applicationContext) }
    }

    private suspend fun open(context: Context) {
        val availability = SatchelModel.availability(context)
        if (availability is Availability.Unavailable) {
            states.update { it.copy(problem = availability.reason.message) }
            return
        }
        try {
            val model = SatchelModel.load(context)
            session = model.newSession()
            states.update { it.copy(model = model) }
        } catch (e: SatchelException) {
            states.update { it.copy(problem = e.message) }
        }
    }

    /** Asks the model; its answer grows in [state]. Nothing happens while it is answering or not loaded. */
    fun send(prompt: String) {
        val session = session ?: return
        if (state.value.answering) return
        states.update {
            val messages = it.messages + Message(fromUser = true, prompt) + Message(fromUser = false, "")
            ChatState(model = it.model, messages = messages, answering = true)
        }
        answer = scope.launch {
            try {
                session.streamResponse(prompt, OPTIONS).collect { chunk ->
                    states.update { it.copy(messages = it.messages.grown(chunk.text), ending = chunk) }
                }
            } catch (e: SatchelException) {
                states.update { it.copy(error = e.message) }
            }
            states.update { it.copy(answering = false) }
        }
    }

    /** Ends the answer that is being given; what was said stays. */
    fun stop() {
        session?.stop()
    }

    /** Forgets the conversation. */
    fun restart() {
        val model = state.value.model ?: return
        answer?.cancel()
        session = model.newSession()
        states.value = ChatState(model)
    }

    private fun List<Message>.grown(text: String) = dropLast(1) + last().let { it.copy(text = it.text + text) }

    private companion object {
        /** A long conversation goes on without its oldest turns. */
        val OPTIONS = GenerateOptions(contextPolicy = ContextPolicy.DROP_OLDEST_TURNS)
    }
}
