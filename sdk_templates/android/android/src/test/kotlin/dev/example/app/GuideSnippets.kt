// What docs/guide-android.md shows: a test compares the two, and this file is compiled.
package dev.example.app

import android.content.Context
import dev.satchel.Availability
import dev.satchel.ChatHistory
import dev.satchel.ContextPolicy
import dev.satchel.FinishReason
import dev.satchel.GenerateOptions
import dev.satchel.SatchelException
import dev.satchel.SatchelModel
import dev.satchel.android.availability
import dev.satchel.android.load
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Job
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.async
import kotlinx.coroutines.launch
import kotlin.time.Duration.Companion.seconds

suspend fun ask(context: Context, show: (String) -> Unit) {
    SatchelModel.load(context).use { model ->
        val session = model.newSession(instructions = "Be brief.")
        session.streamResponse("What is the capital of France?").collect { chunk -> show(chunk.text) }
    }
}

class Assistant(context: Context) {
    private val scope = MainScope()
    private val model = scope.async(start = CoroutineStart.LAZY) { SatchelModel.load(context.applicationContext) }

    /** For a click listener: returns at once; [show] gets each piece of the answer on the main thread. */
    fun ask(prompt: String, show: (String) -> Unit): Job = scope.launch {
        try {
            model.await().newSession().streamResponse(prompt).collect { chunk -> show(chunk.text) }
        } catch (e: SatchelException) {
            show(e.message.orEmpty())
        }
    }
}

val careful = GenerateOptions(
    maxNewTokens = 200,
    temperature = 0.7,
    topP = 0.9,
    repetitionPenalty = 1.1,
    seed = 42,
    stopStrings = listOf("\n\n"),
    timeout = 30.seconds,
    contextPolicy = ContextPolicy.DROP_OLDEST_TURNS,
)

suspend fun conversation(model: SatchelModel, saved: String?, save: (String) -> Unit) {
    val session = if (saved == null) model.newSession() else model.newSession(ChatHistory.fromJson(saved))
    val answer = session.respond("And of Japan?") // session.stop() from a button ends it; what was said stays a turn
    save(session.history.toJson())
    if (answer.finishReason != FinishReason.STOP) println("cut short: ${answer.finishReason}")
    println("${answer.stats?.cachedTokens} of ${answer.stats?.promptTokens} prompt tokens were still known")
}

suspend fun openOrExplain(context: Context, explain: (String) -> Unit): SatchelModel? {
    val availability = SatchelModel.availability(context)
    if (availability is Availability.Unavailable) {
        explain(availability.reason.message) // such as NotEnoughMemory, with what is needed and what there is
        return null
    }
    return try {
        SatchelModel.load(context)
    } catch (e: SatchelException) { // the model, its bundle or the device; misuse is an IllegalStateException
        explain(e.message.orEmpty())
        null
    }
}
