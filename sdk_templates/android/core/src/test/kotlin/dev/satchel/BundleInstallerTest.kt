package dev.satchel

import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.IOException
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

@OptIn(InternalSatchelApi::class)
class BundleInstallerTest {
    @TempDir
    lateinit var folder: File

    private val source get() = File(folder, "assets")
    private val root get() = File(folder, "files")
    private val opened = ArrayList<String>()

    private fun open(name: String) = File(source, name).also { opened += name }.inputStream()

    private fun install(onProgress: () -> Unit = {}) =
        BundleInstaller(root).install("tiny-float", ::open, onProgress)

    @Test
    fun `a bundle is unpacked once, without files that devices don't need`() {
        TestBundle.write(source)
        val directory = install()
        assertEquals(
            listOf("manifest.json", "model.pte", "prompt.json", "tokenizer.bin"),
            directory.list()!!.sorted(),
        )
        opened.clear()
        assertEquals(directory, install())
        assertEquals(listOf("manifest.json"), opened)
    }

    @Test
    fun `a damaged file, a stop and a broken source leave nothing behind`() {
        TestBundle.write(source)
        val program = File(source, "model.pte")
        val good = program.readBytes()
        program.writeBytes(good.copyOf().also { it[0]++ })
        assertFailsWith<SatchelException.BundleCorrupt> { install() }
        program.writeBytes(good)
        var parts = 0
        assertFailsWith<IllegalStateException> { install { check(++parts < 4) { "stopped" } } }
        File(source, "prompt.json").delete()
        assertFailsWith<IOException> { install() }
        assertTrue(root.list()!!.isEmpty())
    }

    @Test
    fun `too little storage is said before anything is written`() {
        TestBundle.write(source)
        val installer = BundleInstaller(root) { 100 }
        val error = assertFailsWith<SatchelException.StorageFull> { installer.install("tiny-float", ::open) {} }
        assertEquals(100, error.availableBytes)
        assertTrue(error.requiredBytes > 100)
        assertTrue(root.list()!!.isEmpty())
    }

    @Test
    fun `a new version lies beside the old one until that is removed, and what a crash left is cleared`() {
        TestBundle.write(source)
        val old = install()
        File(root, "tiny-float@dead.unfinished").mkdirs()
        TestBundle.write(source, program = "a better program".encodeToByteArray())
        val new = install()
        assertEquals(setOf(old, new), root.listFiles()!!.toSet())
        val other = File(root, "tiny-float-large@1").also { it.mkdirs() }
        BundleInstaller(root).removeOthers("tiny-float", new)
        assertEquals(setOf(new, other), root.listFiles()!!.toSet())
    }
}
