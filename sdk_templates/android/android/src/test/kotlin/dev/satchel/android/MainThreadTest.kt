package dev.satchel.android

import android.content.Context
import android.content.ContextWrapper
import android.content.res.AssetManager
import android.os.Handler
import android.os.Looper
import dev.satchel.SatchelModel
import dev.satchel.TestBundle
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.async
import org.junit.After
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import java.io.File
import java.util.Collections
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executor
import kotlin.test.assertEquals
import kotlin.test.assertNotEquals
import kotlin.test.assertTrue

/** What StrictMode would punish in an app: reading files on the main thread, or keeping it waiting. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
class MainThreadTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val main = Looper.getMainLooper()
    private val scope = CoroutineScope(Executor { Handler(main).post(it) }.asCoroutineDispatcher())

    /** Threads on which files of the app were asked for. */
    private val readers = Collections.synchronizedSet(HashSet<Thread>())

    private val context = object : ContextWrapper(RuntimeEnvironment.getApplication()) {
        override fun getAssets(): AssetManager {
            readers += Thread.currentThread()
            return super.getAssets()
        }

        override fun getNoBackupFilesDir(): File {
            readers += Thread.currentThread()
            return super.getNoBackupFilesDir()
        }

        override fun getApplicationContext(): Context = this
    }

    @After
    fun reset() {
        FakeEngineFactory.onOpen = {}
    }

    /** Lets the main thread do what comes, as an app's does, until [isOver]. */
    private fun runMainUntil(isOver: () -> Boolean) {
        val end = System.nanoTime() + 60_000_000_000
        while (!isOver()) {
            shadowOf(main).idle()
            Thread.sleep(1)
            assertTrue(System.nanoTime() < end, "nothing happened for a minute")
        }
    }

    private fun <T> Deferred<T>.resultOnMain(): T {
        runMainUntil { isCompleted }
        return getCompleted()
    }

    @Test
    fun `loading, asking and answering from the main thread leave it free and read no file on it`() {
        assertEquals(main.thread, Thread.currentThread())
        addModel(context, temporary.newFile(), "tiny-float", TestBundle.write(temporary.newFolder()))
        readers.clear()
        val opening = CountDownLatch(1)
        val mayOpen = CountDownLatch(1)
        var openedOn: Thread? = null
        FakeEngineFactory.onOpen = {
            openedOn = Thread.currentThread()
            opening.countDown()
            mayOpen.await()
        }
        scope.async { SatchelModel.availability(context) }.resultOnMain()
        val load = scope.async { SatchelModel.load(context) }
        runMainUntil { opening.count == 0L }
        var tapped = false
        Handler(main).post { tapped = true }
        runMainUntil { tapped } // a user's tap is handled while the engine opens
        assertTrue(!load.isCompleted)
        mayOpen.countDown()
        load.resultOnMain().use { model ->
            assertEquals("Paris.", scope.async { model.newSession().respond("Capital of France?") }.resultOnMain().text)
        }
        assertNotEquals(main.thread, openedOn)
        assertTrue(readers.isNotEmpty())
        assertTrue(main.thread !in readers)
    }
}
