package dev.satchel.android

import android.app.Application
import android.content.ComponentCallbacks2
import dev.satchel.FakeEngine
import dev.satchel.SatchelModel
import dev.satchel.TestBundle
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.runBlocking
import org.junit.After
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
class TrimMemoryTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val app: Application get() = RuntimeEnvironment.getApplication()
    private lateinit var model: SatchelModel
    private val engine: FakeEngine get() = checkNotNull(FakeEngineFactory.engine)

    @Before
    fun load() {
        FakeEngineFactory.stepMillis = 5
        addModel(app, temporary.newFile(), "tiny-float", TestBundle.write(temporary.newFolder()))
        model = runBlocking { SatchelModel.load(app) }
    }

    @After
    fun close() {
        FakeEngineFactory.stepMillis = 0
        model.close()
    }

    private fun answer() = runBlocking { model.newSession().respond("Capital of France?").text }

    private fun waitUntilClosed() {
        val end = System.nanoTime() + 60_000_000_000
        while (engine.closed.get() == 0) {
            assertTrue(System.nanoTime() < end, "the model is not closed")
            Thread.sleep(1)
        }
    }

    @Test
    fun `in the background it is closed, in front it is not`() {
        model.closeOnTrimMemory(app).use {
            @Suppress("DEPRECATION")
            for (level in listOf(
                ComponentCallbacks2.TRIM_MEMORY_RUNNING_CRITICAL,
                ComponentCallbacks2.TRIM_MEMORY_UI_HIDDEN,
            )) {
                app.onTrimMemory(level)
            }
            app.onLowMemory()
            assertEquals("Paris.", answer())
            app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
            waitUntilClosed()
            assertFailsWith<IllegalStateException> { answer() }
            app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND) // once more does no harm
        }
    }

    @Test
    fun `an answer that is being generated is completed first`() = runBlocking {
        val registration = model.closeOnTrimMemory(app)
        val answer = async(Dispatchers.Default) { model.newSession().respond("Capital of France?") }
        while (engine.steps.get() < 3) Thread.sleep(1)
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        assertEquals(0, engine.closed.get())
        assertEquals("Paris.", answer.await().text)
        waitUntilClosed()
        assertEquals(0, engine.misuse.get())
        registration.close()
    }

    @Test
    fun `nothing happens after it was ended`() {
        model.closeOnTrimMemory(app).close()
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        assertEquals("Paris.", answer())
    }
}
