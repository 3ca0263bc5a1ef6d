package dev.satchel

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream

/**
 * Unpacks a bundle into files, once: an app's assets can't be mapped into memory.
 *
 * A bundle lies under a name made of its content, so a new version never touches the files of the one in use. It is
 * written to a temporary folder, verified while it is copied, and renamed: a folder with a final name is complete.
 *
 * @suppress
 */
@InternalSatchelApi
public class BundleInstaller(
    private val root: File,
    private val freeBytes: () -> Long = root::getUsableSpace,
) {
    /**
     * The folder of the bundle [name], unpacked if it is not there yet.
     *
     * @param open opens a file of the bundle by its name
     * @param onProgress called between parts of a file; may throw to stop, and nothing is left behind then
     * @throws SatchelException.BundleCorrupt if a file differs from the manifest
     * @throws SatchelException.StorageFull if the bundle does not fit
     * @throws IOException if the files can't be read or written
     */
    public fun install(name: String, open: (String) -> InputStream, onProgress: () -> Unit): File {
        val text = open(Manifest.FILE).use { it.readBytes() }
        val manifest = Manifest.parse(text.decodeToString())
        val target = File(root, folderName(name, manifest))
        synchronized(LOCK) {
            if (target.isDirectory) return target
            root.mkdirs() // free space is that of an existing folder
            removeUnfinished()
            val required = size(manifest, text)
            val available = freeBytes()
            if (available < required) throw SatchelException.StorageFull(required, available)
            val temporary = File(root, target.name + UNFINISHED)
            try {
                if (!temporary.mkdir()) throw IOException("Can't create the folder $temporary")
                for (artifact in Bundle.installedArtifacts(manifest)) {
                    write(File(temporary, artifact.file)) { output ->
                        open(artifact.file).use { input -> copyVerified(input, output, artifact, onProgress) }
                    }
                }
                write(File(temporary, Manifest.FILE)) { it.write(text) }
                if (!temporary.renameTo(target)) throw IOException("Can't rename $temporary to $target")
            } finally {
                temporary.deleteRecursively() // nothing is there under this name after the rename
            }
        }
        return target
    }

    /**
     * The bytes that unpacking the bundle [name] still takes: 0 if it is there.
     *
     * @param manifest the text of its `manifest.json`
     * @throws SatchelException if that is no manifest, or one for a newer library
     */
    public fun missingBytes(name: String, manifest: String): Long {
        val parsed = Manifest.parse(manifest)
        return if (File(root, folderName(name, parsed)).isDirectory) 0 else size(parsed, manifest.encodeToByteArray())
    }

    /** Removes other versions of the bundle [name]. Call it when the folder [current] has opened. */
    public fun removeOthers(name: String, current: File) {
        synchronized(LOCK) {
            root.listFiles { file -> file.name.startsWith("$name$SEPARATOR") && file.name != current.name }
                ?.forEach { it.deleteRecursively() }
        }
    }

    /** Removes the unpacked bundle in [directory]: it turned out to be damaged. */
    public fun remove(directory: File) {
        synchronized(LOCK) { directory.deleteRecursively() }
    }

    /** A power cut after the rename must not find the folder with its final name and a file without its bytes. */
    private fun write(file: File, content: (OutputStream) -> Unit) {
        file.outputStream().use { output ->
            content(output)
            output.fd.sync()
        }
    }

    private fun removeUnfinished() {
        root.listFiles { file -> file.name.endsWith(UNFINISHED) }?.forEach { it.deleteRecursively() }
    }

    private fun size(manifest: Manifest, text: ByteArray): Long =
        Bundle.installedArtifacts(manifest).sumOf { it.bytes } + text.size

    private fun folderName(name: String, manifest: Manifest): String =
        name + SEPARATOR + contentVersion(manifest).take(VERSION_DIGITS)

    private companion object {
        private const val SEPARATOR = "@"
        private const val UNFINISHED = ".unfinished"
        private const val VERSION_DIGITS = 16

        /** Two loads in one process must not unpack into the same folder. */
        val LOCK = Any()
    }
}
