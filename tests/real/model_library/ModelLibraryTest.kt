package dev.satchel.example

import android.app.ActivityManager
import android.app.Application
import android.content.ComponentCallbacks2
import android.content.Context
import android.content.ContextWrapper
import android.content.res.AssetManager
import android.os.Handler
import android.os.Looper
import dev.satchel.Availability
import dev.satchel.ChatHistory
import dev.satchel.GenerateOptions
import dev.satchel.SatchelModel
import dev.satchel.SelfTestResult
import dev.satchel.android.availability
import dev.satchel.android.closeOnTrimMemory
import dev.satchel.android.load
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.async
import kotlinx.coroutines.runBlocking
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import java.io.File
import java.io.RandomAccessFile
import java.util.Collections
import java.util.concurrent.Executor
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertIs
import kotlin.test.assertTrue

private const val QUESTION = "What is the capital of France?"

/** An app that has one real model library: only the runtime below the engine is the host's. */
@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
class ModelLibraryTest {
    private val app: Application get() = RuntimeEnvironment.getApplication()
    private val library = File(System.getProperty("model.library")!!)
    private val name = library.name.replace(Regex("""-[0-9.]+(-unproven)?\.aar$"""), "")
    private val installed get() = File(app.noBackupFilesDir, "satchel")
    private val folder get() = installed.listFiles()!!.single()
    private val program get() = folder.listFiles()!!.single { it.name.startsWith("model.") }

    /** Puts the library's assets into the app, as its installation would. */
    @Before
    fun install() {
        val addAssetPath = AssetManager::class.java.getMethod("addAssetPath", String::class.java)
        assertTrue(addAssetPath.invoke(app.assets, library.path) as Int > 0)
        val memory = ActivityManager.MemoryInfo().apply { availMem = 4_000_000_000 }
        shadowOf(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(memory)
    }

    private suspend fun SatchelModel.answer(history: ChatHistory = ChatHistory(null)) =
        newSession(history).respond(QUESTION, GenerateOptions(maxNewTokens = 16, temperature = 0.0)).text

    private fun SelfTestResult.check(name: String) = checks.single { it.name == name }

    @Test
    fun `it is available, unpacked once, replaces an older version, and tests itself`() = runBlocking {
        assertIs<Availability.Available>(SatchelModel.availability(app))
        assertFalse(installed.exists(), "asking unpacks nothing")
        val older = File(installed, "$name@0123456789abcdef").also { it.mkdirs() }

        SatchelModel.load(app).use { model ->
            assertFalse(older.exists(), "the new version has opened")
            assertContains(folder.name, "$name@")
            assertContains(model.answer(), "Paris")
            val result = model.selfTest()
            assertTrue(result.passed, "$result")
            assertTrue(result.checks.map { it.name }.containsAll(listOf("files", "tokenizer", "prompt", "sampler")))
        }
        val time = 1_000_000_000_000
        assertTrue(program.setLastModified(time))
        SatchelModel.load(app).close()
        assertEquals(time, program.lastModified(), "a second load unpacks nothing")
    }

    @Test
    fun `a byte that changes in storage is found, and the next load unpacks the file again`() = runBlocking {
        SatchelModel.load(app).use { model ->
            RandomAccessFile(program, "rw").use { file ->
                file.seek(file.length() / 2)
                val byte = file.read()
                file.seek(file.length() / 2)
                file.write(byte xor 1)
            }
            val files = model.selfTest().check("files")
            assertFalse(files.passed)
            assertContains(files.detail, program.name)
        }
        SatchelModel.load(app).use { model ->
            assertTrue(model.selfTest().check("files").passed)
            assertContains(model.answer(), "Paris")
        }
    }

    @Test
    fun `in the background it is closed, and the conversation goes on with the model loaded again`() = runBlocking {
        val model = SatchelModel.load(app)
        val session = model.newSession()
        val registration = model.closeOnTrimMemory(app)
        assertContains(session.respond(QUESTION, GenerateOptions(maxNewTokens = 16)).text, "Paris")
        app.onTrimMemory(ComponentCallbacks2.TRIM_MEMORY_BACKGROUND)
        waitUntil { runCatching { runBlocking { model.prewarm() } }.isFailure }
        assertFailsWith<IllegalStateException> { model.answer() }
        registration.close()
        SatchelModel.load(app).use { again ->
            val continued = again.newSession(session.history)
            continued.respond("And of Italy?", GenerateOptions(maxNewTokens = 16))
            assertEquals(4, continued.history.turns.size)
        }
    }

    @Test
    fun `an app that does all from its main thread keeps it free, and reads no file on it`() {
        val main = Looper.getMainLooper()
        val scope = CoroutineScope(Executor { Handler(main).post(it) }.asCoroutineDispatcher())
        val readers = Collections.synchronizedSet(HashSet<Thread>())
        val context = object : ContextWrapper(app) {
            override fun getAssets(): AssetManager = super.getAssets().also { readers += Thread.currentThread() }

            override fun getNoBackupFilesDir(): File =
                super.getNoBackupFilesDir().also { readers += Thread.currentThread() }

            override fun getApplicationContext(): Context = this
        }

        /** How often the main thread was free for something else meanwhile. */
        fun <T> meanwhile(body: suspend () -> T): Pair<T, Int> {
            val result = scope.async { body() }
            var turns = 0
            waitUntil {
                Handler(main).post { turns++ }
                shadowOf(main).idle()
                result.isCompleted
            }
            return runBlocking { result.await() } to turns
        }

        val (_, whileAsked) = meanwhile { SatchelModel.availability(context) }
        val (model, whileLoading) = meanwhile { SatchelModel.load(context) }
        val (answer, whileAnswering) = meanwhile { model.answer() }
        model.close()
        assertContains(answer, "Paris")
        assertTrue(whileAsked > 0 && whileLoading > 10 && whileAnswering > 10, "$whileLoading, $whileAnswering turns")
        assertEquals(Thread.currentThread(), main.thread)
        assertTrue(readers.isNotEmpty() && main.thread !in readers)
    }

    private fun waitUntil(condition: () -> Boolean) {
        val end = System.nanoTime() + 120_000_000_000
        while (!condition()) {
            assertTrue(System.nanoTime() < end, "it did not happen in two minutes")
            Thread.sleep(1)
        }
    }
}
