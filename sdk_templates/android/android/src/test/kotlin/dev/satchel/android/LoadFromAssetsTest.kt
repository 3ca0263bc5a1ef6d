package dev.satchel.android

import android.content.Context
import android.content.res.AssetManager
import dev.satchel.FakeEngine
import dev.satchel.SatchelException
import dev.satchel.SatchelModel
import dev.satchel.TestBundle
import dev.satchel.TokenEngine
import dev.satchel.TokenEngineFactory
import kotlinx.coroutines.runBlocking
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.annotation.Config
import java.io.File
import java.util.zip.ZipEntry
import java.util.zip.ZipOutputStream
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

/** Found by ServiceLoader, as an engine's library is. */
class FakeEngineFactory : TokenEngineFactory {
    override val backend: String = "fake"
    override val runtimeVersion: String = "1.5.0"

    override fun open(program: File, threads: Int): TokenEngine {
        onOpen()
        openedProgram = program
        return FakeEngine.saying("Paris.", stepMillis).also { engine = it }
    }

    companion object {
        var openedProgram: File? = null
        var engine: FakeEngine? = null
        var stepMillis: Long = 0
        var onOpen: () -> Unit = {}
    }
}

/** Puts a model library's assets into the app, as its installation would. */
internal fun addModel(context: Context, apk: File, name: String, bundle: File) {
    ZipOutputStream(apk.outputStream()).use { zip ->
        for (file in bundle.listFiles()!!.sorted()) {
            zip.putNextEntry(ZipEntry("assets/satchel/$name/${file.name}"))
            zip.write(file.readBytes())
            zip.closeEntry()
        }
    }
    val addAssetPath = AssetManager::class.java.getMethod("addAssetPath", String::class.java)
    assertTrue(addAssetPath.invoke(context.assets, apk.path) as Int > 0)
}

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
class LoadFromAssetsTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val context: Context get() = RuntimeEnvironment.getApplication()
    private val installed get() = File(context.noBackupFilesDir, "satchel")

    private fun addModel(name: String, bundle: File) = addModel(context, temporary.newFile("$name.apk"), name, bundle)

    @Test
    fun `the app's one model is unpacked out of reach of backups and answers`() = runBlocking {
        addModel("tiny-float", TestBundle.write(temporary.newFolder()))
        SatchelModel.load(context).use { model ->
            assertEquals("Paris.", model.newSession().respond("Capital of France?").text)
        }
        val folder = installed.listFiles()!!.single()
        assertEquals(folder, FakeEngineFactory.openedProgram!!.parentFile)
        assertContains(folder.name, "tiny-float@")
    }

    @Test
    fun `a second load unpacks nothing, and one that finds a damaged file unpacks it again`() = runBlocking {
        addModel("tiny-float", TestBundle.write(temporary.newFolder()))
        SatchelModel.load(context).close()
        val program = File(installed.listFiles()!!.single(), "model.pte")
        val time = 1_000_000_000_000
        assertTrue(program.setLastModified(time))
        SatchelModel.load(context).close()
        assertEquals(time, program.lastModified())
        program.appendText("x")
        SatchelModel.load(context).close()
        assertEquals("a program", program.readText())
    }

    @Test
    fun `a model library with a damaged file is refused`() = runBlocking {
        val bundle = TestBundle.write(temporary.newFolder())
        File(bundle, "model.pte").appendText("x")
        addModel("tiny-float", bundle)
        assertFailsWith<SatchelException.BundleCorrupt> { SatchelModel.load(context) }
        assertTrue(installed.list()!!.isEmpty())
    }

    @Test
    fun `files of older versions are removed when the new one has opened`() = runBlocking {
        addModel("tiny-float", TestBundle.write(temporary.newFolder()))
        val old = File(installed, "tiny-float@0123456789abcdef").also { it.mkdirs() }
        SatchelModel.load(context).close()
        assertTrue(!old.exists())
    }

    @Test
    fun `with several models one must be named, and a wrong name lists them`() = runBlocking {
        assertContains(assertFailsWith<IllegalArgumentException> { SatchelModel.load(context) }.message!!, "no model")
        addModel("a-int4", TestBundle.write(temporary.newFolder()))
        addModel("b-int4", TestBundle.write(temporary.newFolder()))
        for (name in listOf(null, "c-int4")) {
            val message = assertFailsWith<IllegalArgumentException> { SatchelModel.load(context, name) }.message!!
            assertContains(message, "a-int4, b-int4")
        }
        SatchelModel.load(context, "b-int4").close()
        assertContains(installed.list()!!.single(), "b-int4@")
    }
}
