package dev.satchel

import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.test.Test
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertIs

class BundleTest {
    @TempDir
    lateinit var folder: File

    private val neverOpened = listOf(
        object : TokenEngineFactory {
            override val backend = "fake"
            override val runtimeVersion = "1.5.0"

            override fun open(program: File, threads: Int) = error("the runtime saw a bundle that is not good")
        },
    )

    private suspend fun load() = SatchelModel.load(folder, 0, neverOpened)

    private suspend fun unavailable() = assertFailsWith<SatchelException.Unavailable> { load() }.reason

    @Test
    fun `one changed byte in any file is found before the runtime sees it`() = runTest {
        for (name in listOf("model.pte", "tokenizer.bin", "prompt.json")) {
            TestBundle.write(folder)
            val file = File(folder, name)
            file.writeBytes(file.readBytes().also { it[it.size / 2]++ })
            assertEquals(name, assertFailsWith<SatchelException.BundleCorrupt> { load() }.file)
        }
    }

    @Test
    fun `a missing, shorter or longer file is named`() = runTest {
        val changes = listOf<(File) -> Unit>({ it.delete() }, { it.writeText("") }, { it.appendText("x") })
        for (change in changes) {
            TestBundle.write(folder)
            change(File(folder, "model.pte"))
            assertEquals("model.pte", assertFailsWith<SatchelException.BundleCorrupt> { load() }.file)
        }
    }

    @Test
    fun `a folder without a manifest is no bundle`() = runTest {
        assertEquals("manifest.json", assertFailsWith<SatchelException.BundleCorrupt> { load() }.file)
    }

    @Test
    fun `a damaged manifest names the field`() = runTest {
        TestBundle.write(folder) { it.replace("\"vocab_size\": 259", "\"vocab_size\": \"many\"") }
        assertContains(assertFailsWith<SatchelException.BundleCorrupt> { load() }.message!!, "vocab_size")
        TestBundle.write(folder) { it.dropLast(5) }
        assertFailsWith<SatchelException.BundleCorrupt> { load() }
    }

    @Test
    fun `a file name can't leave the bundle`() = runTest {
        for (name in listOf("../model.pte", "/model.pte", "a\\\\b", ".")) {
            TestBundle.write(folder) { it.replace("\"model.pte\"", "\"$name\"") }
            assertEquals("manifest.json", assertFailsWith<SatchelException.BundleCorrupt> { load() }.file)
        }
    }

    @Test
    fun `a bundle for a newer library or schema says so`() = runTest {
        TestBundle.write(folder) { it.replace("\"sdk\": \"0.1.0\"", "\"sdk\": \"0.10.0\"") }
        assertContains(assertIs<UnavailableReason.SdkTooOld>(unavailable()).message, "0.10.0")
        TestBundle.write(folder) { it.replace("\"schema_version\": 1", "\"schema_version\": 2") }
        assertContains(assertIs<UnavailableReason.SdkTooOld>(unavailable()).message, "schema 2")
    }

    @Test
    fun `a backend without an engine names the library to add`() = runTest {
        TestBundle.write(folder) { it.replace("\"fake\"", "\"litert\"") }
        assertContains(assertIs<UnavailableReason.NoEngine>(unavailable()).message, "satchel-litert")
    }

    @Test
    fun `an engine that differs from the manifest is closed again`() = runTest {
        val engine = FakeEngine.endless()
        TestBundle.write(folder) { it.replace("\"context_length\": 64", "\"context_length\": 128") }
        assertFailsWith<SatchelException.BundleCorrupt> { SatchelModel.load(folder, 0, engine.asFactory()) }
        assertEquals(1, engine.closed.get())
    }

    @Test
    fun `versions compare by number`() {
        assertEquals(listOf(-1, 0, 1), listOf("0.9", "0.10.0", "0.10.1").map { compareVersions(it, "0.10") })
    }

    @Test
    fun `a processor has the features that all its cores have`() {
        val cpuinfo = "processor : 0\nFeatures\t: fp asimd asimddp\n\nprocessor : 1\nFeatures\t: fp asimd\n"
        assertEquals(setOf("fp", "asimd"), cpuFeatures(cpuinfo))
    }
}
