package dev.satchel.example

import android.app.ActivityManager
import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Looper
import android.os.SystemClock
import android.view.MotionEvent
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.ImageButton
import android.widget.TextView
import org.junit.After
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.seconds
import kotlin.time.TimeSource

private const val SPEED = """\d+\.\d tokens/s · first token after \d+ ms"""

/** The app with the real model: only the runtime below the engine is the host's. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(qualifiers = "w411dp-h680dp-xhdpi")
class ChatActivityTest {
    private lateinit var screen: ActivityController<ChatActivity>
    private val activity get() = screen.get()

    @Before
    fun haveMemory() = haveMemory(4_000_000_000)

    @After
    fun leave() {
        (RuntimeEnvironment.getApplication() as ExampleApp).chat.state.value.model?.close()
    }

    @Test
    fun `an answer is followed by how fast it was`() {
        open()
        assertFalse(send.isEnabled, "there is nothing to send yet")
        assertEquals(View.INVISIBLE, view<View>(R.id.new_chat).visibility)
        ask("What is the capital of France?")
        waitUntil { !answering }
        assertEquals("The capital of France is Paris.", answer)
        assertTrue(Regex(SPEED).matches(status), status)
        assertTrue(Regex("smollm2-135m-instruct · int4 · [0-9a-f]{12}").matches(text(R.id.model)), text(R.id.model))
        ask("And of Italy?")
        waitUntil { !answering }
        picture("light")

        touch(view(R.id.new_chat))
        waitUntil { messages.isEmpty() }
        assertEquals(View.VISIBLE, view<View>(R.id.notice).visibility)
    }

    @Test
    fun `an answer grows piece by piece, stop keeps what was said, and the next question is answered`() {
        open()
        ask("Write a long story about a dragon.")
        assertEquals("Stop", send.contentDescription)
        val seen = ArrayList<String>()
        waitUntil {
            if (seen.lastOrNull() != answer) seen += answer
            answer.length > 200
        }
        // Of some fifty tokens, those that came while the screen drew the one before are shown together.
        assertTrue(seen.size > 10, "the answer came in ${seen.size} pieces: $seen")
        seen.drop(1).zipWithNext { shorter, longer -> assertTrue(longer.startsWith(shorter), "$shorter, then $longer") }
        touch(send)
        waitUntil { !answering }
        assertTrue(Regex("Stopped · $SPEED").matches(status), status)
        val stopped = answer
        assertTrue(stopped.startsWith(seen.last()))
        ask("What is 2 + 2?")
        waitUntil { !answering }
        assertEquals(listOf("Write a long story about a dragon.", stopped, "What is 2 + 2?"), messages.take(3))
        // What the model makes of a story that ends somewhere, and at what length, is its own affair.
        assertTrue(Regex("(Cut off · )?$SPEED").matches(status), status)
    }

    @Test
    fun `turning the device and the night keep the answer that is growing`() {
        open()
        ask("Write a long story about a dragon.")
        waitUntil { answer.length > 20 }
        val before = answer
        // The screen settles before it is shown, and where drawing is slower than the model that takes the whole answer.
        rotate("+land-night")
        waitUntil { answer.length > before.length }
        assertTrue(answer.startsWith(before))
        picture("landscape")
        rotate("+port-night")
        waitUntil { !answering }
        assertTrue(answer.startsWith(before))
        // It was not stopped.
        assertTrue(Regex("(Cut off · )?$SPEED").matches(status), status)
        picture("dark")
    }

    @Test
    fun `leaving the app ends the answer`() {
        open()
        ask("Write a long story about a dragon.")
        waitUntil { answer.length > 20 }
        screen.pause().stop()
        screen.restart().start().resume()
        waitUntil { !answering }
        assertContains(status, "Stopped")
    }

    @Test
    fun `says what keeps the model from running`() {
        haveMemory(1_000_000)
        screen = Robolectric.buildActivity(ChatActivity::class.java).setup()
        waitUntil { text(R.id.notice) != "Loading the model…" }
        assertContains(text(R.id.notice), Regex("The model needs [0-9]+ MB of memory and 1 MB are free"))
        view<EditText>(R.id.prompt).append("What is the capital of France?")
        assertFalse(send.isEnabled)
        picture("problem")
    }

    // --- the phone, and what a person does with it ---

    private fun haveMemory(bytes: Long) {
        val manager = RuntimeEnvironment.getApplication().getSystemService(ActivityManager::class.java)
        shadowOf(manager).setMemoryInfo(ActivityManager.MemoryInfo().apply { availMem = bytes })
    }

    private fun open() {
        screen = Robolectric.buildActivity(ChatActivity::class.java).setup()
        waitUntil { text(R.id.notice) != "Loading the model…" }
        assertContains(text(R.id.notice), "Ask something")
    }

    private fun ask(question: String) {
        view<EditText>(R.id.prompt).append(question)
        val shown = messages.size
        touch(send)
        waitUntil { messages.size == shown + 2 }
        assertEquals(question, messages[shown])
    }

    /** A finger on the middle of the view: it goes through layout and hit testing, which performClick does not. */
    private fun touch(view: View) {
        val corner = IntArray(2).also(view::getLocationInWindow)
        val (x, y) = corner[0] + view.width / 2f to corner[1] + view.height / 2f
        val now = SystemClock.uptimeMillis()
        for (action in listOf(MotionEvent.ACTION_DOWN, MotionEvent.ACTION_UP)) {
            assertTrue(activity.window.decorView.dispatchTouchEvent(MotionEvent.obtain(now, now, action, x, y, 0)))
        }
    }

    private fun rotate(qualifiers: String) {
        RuntimeEnvironment.setQualifiers(qualifiers)
        screen.configurationChange(RuntimeEnvironment.getApplication().resources.configuration).visible()
    }

    // --- what a person sees ---

    private val send get() = view<ImageButton>(R.id.send)
    private val status get() = text(R.id.status)
    private val answering get() = send.contentDescription == "Stop"
    private val answer get() = messages.last()
    private val messages: List<String>
        get() = view<ViewGroup>(R.id.messages).let { group ->
            (0 until group.childCount).map { (group.getChildAt(it) as TextView).text.toString() }
        }

    private fun text(id: Int): String = view<TextView>(id).text.toString()

    private fun <T : View> view(id: Int): T = checkNotNull(activity.findViewById(id))

    /**
     * Asks after every task of the main thread: while the model answers, its queue may never be empty. Where drawing
     * is slower than the model, the next piece is there when the last one is drawn.
     */
    private fun waitUntil(condition: () -> Boolean) {
        val main = shadowOf(Looper.getMainLooper())
        val start = TimeSource.Monotonic.markNow()
        while (!condition()) {
            check(start.elapsedNow() < 120.seconds) { "It did not happen; the screen says $messages, $status" }
            if (main.isIdle) Thread.sleep(2) else main.runOneTask()
        }
    }

    private fun picture(name: String) {
        val window = activity.window.decorView
        waitUntil { !window.isLayoutRequested }
        val bitmap = Bitmap.createBitmap(window.width, window.height, Bitmap.Config.ARGB_8888)
        window.draw(Canvas(bitmap))
        val file = File(System.getProperty("pictures")!!, "$name.webp").also { it.parentFile!!.mkdirs() }
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.WEBP, 90, it) }
    }
}
