package dev.satchel.example

import android.app.Activity
import android.os.Build
import android.os.Bundle
import android.text.Editable
import android.text.TextWatcher
import android.view.View
import android.view.WindowInsets
import android.widget.EditText
import android.widget.ImageButton
import android.widget.LinearLayout
import android.widget.ScrollView
import android.widget.TextView
import dev.satchel.FinishReason
import dev.satchel.TextChunk
import kotlinx.coroutines.Job
import kotlinx.coroutines.MainScope
import kotlinx.coroutines.launch

/** Draws what [Chat] says, and tells it what was touched. */
class ChatActivity : Activity() {
    private val chat get() = (application as ExampleApp).chat
    private val scope = MainScope()
    private var drawing: Job? = null

    private val model by lazy { view<TextView>(R.id.model) }
    private val newChat by lazy { view<ImageButton>(R.id.new_chat) }
    private val notice by lazy { view<TextView>(R.id.notice) }
    private val scroll by lazy { view<ScrollView>(R.id.scroll) }
    private val messages by lazy { view<LinearLayout>(R.id.messages) }
    private val status by lazy { view<TextView>(R.id.status) }
    private val prompt by lazy { view<EditText>(R.id.prompt) }
    private val send by lazy { view<ImageButton>(R.id.send) }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.chat)
        keepClearOfSystemBars(view(R.id.root))
        send.setOnClickListener { if (chat.state.value.answering) chat.stop() else send() }
        newChat.setOnClickListener { chat.restart() }
        prompt.addTextChangedListener(object : TextWatcher {
            override fun afterTextChanged(text: Editable) = drawSend(chat.state.value)

            override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

            override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit
        })
    }

    override fun onStart() {
        super.onStart()
        drawing = scope.launch { chat.state.collect(::draw) }
    }

    override fun onStop() {
        drawing?.cancel()
        if (!isChangingConfigurations) chat.stop() // nobody watches: save the battery
        super.onStop()
    }

    private fun send() {
        chat.send(prompt.text.toString().trim())
        prompt.text.clear()
    }

    private fun draw(state: ChatState) {
        val empty = state.messages.isEmpty()
        model.text = state.model?.let { "${it.id} · ${it.recipe} · ${it.version}" } ?: getString(R.string.no_model)
        newChat.visibility = if (empty) View.INVISIBLE else View.VISIBLE
        notice.visibility = if (empty) View.VISIBLE else View.GONE
        notice.text = state.problem ?: getString(if (state.model == null) R.string.loading else R.string.ready)
        status.text = statusLine(state)
        drawMessages(state.messages)
        drawSend(state)
    }

    private fun statusLine(state: ChatState): String {
        val ending = state.ending
        return when {
            state.error != null -> state.error
            state.answering -> getString(R.string.answering)
            ending == null -> ""
            else -> listOfNotNull(reason(ending), speed(ending)).joinToString(" · ")
        }
    }

    /** Why the answer ended, if it was not because everything was said. */
    private fun reason(ending: TextChunk): String? = when (ending.finishReason) {
        FinishReason.STOP -> null
        FinishReason.CANCELLED -> getString(R.string.stopped)
        else -> getString(R.string.cut_off)
    }

    private fun speed(ending: TextChunk): String? {
        val stats = ending.stats ?: return null
        val first = stats.timeToFirstToken ?: return null
        val tokensPerSecond = stats.decodeTokensPerSecond ?: return null // of one token there is no speed
        return getString(R.string.speed, tokensPerSecond, first.inWholeMilliseconds)
    }

    private fun drawMessages(all: List<Message>) {
        val following = !scroll.canScrollVertically(1)
        if (messages.childCount > all.size) messages.removeAllViews()
        all.forEachIndexed { index, message ->
            val bubble = messages.getChildAt(index) ?: addBubble(message)
            (bubble as TextView).text = message.text.trim().ifEmpty { "…" }
        }
        if (following) scroll.post { scroll.scrollTo(0, messages.height) }
    }

    private fun addBubble(message: Message): View {
        val layout = if (message.fromUser) R.layout.message_user else R.layout.message_model
        return layoutInflater.inflate(layout, messages, false).also(messages::addView)
    }

    private fun drawSend(state: ChatState) {
        send.setImageResource(if (state.answering) R.drawable.ic_stop else R.drawable.ic_send)
        send.contentDescription = getString(if (state.answering) R.string.stop else R.string.send)
        send.isEnabled = state.answering || (state.model != null && prompt.text.isNotBlank())
        send.alpha = if (send.isEnabled) 1f else 0.4f
    }

    private fun <T : View> view(id: Int): T = checkNotNull(findViewById(id))

    /** From API 35 on, a window reaches behind the system's bars and the keyboard. */
    private fun keepClearOfSystemBars(root: View) = root.setOnApplyWindowInsetsListener { view, insets ->
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
            val covered = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
            val bars = insets.getInsets(covered)
            view.setPadding(bars.left, bars.top, bars.right, bars.bottom)
        } else {
            @Suppress("DEPRECATION")
            view.setPadding(
                insets.systemWindowInsetLeft,
                insets.systemWindowInsetTop,
                insets.systemWindowInsetRight,
                insets.systemWindowInsetBottom,
            )
        }
        insets
    }
}
