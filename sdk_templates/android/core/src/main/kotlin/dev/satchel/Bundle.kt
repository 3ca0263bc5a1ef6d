package dev.satchel

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.io.OutputStream
import java.security.MessageDigest
import java.util.ServiceLoader

/** A bundle's folder whose manifest has been read. */
internal class Bundle private constructor(
    private val directory: File,
    val manifest: Manifest,
) {
    /**
     * Compares size and hash of every file that this library reads with the manifest, so that no damaged byte reaches
     * the runtime, which would not notice.
     *
     * @param onProgress called between parts of a file; may throw to stop
     * @throws SatchelException.BundleCorrupt naming the first file that differs
     */
    fun verify(onProgress: () -> Unit) {
        for (artifact in installedArtifacts(manifest)) {
            val file = File(directory, artifact.file)
            if (!file.isFile) throw SatchelException.BundleCorrupt(artifact.file, "${artifact.bytes} bytes", "no file")
            file.inputStream().use { copyVerified(it, NO_OUTPUT, artifact, onProgress) }
        }
    }

    fun openTokenizer(): Tokenizer = Tokenizer.open(File(directory, manifest.requireArtifact(Manifest.TOKENIZER).file))

    /** The compiled chat template; null if the model has none and takes raw prompts only. */
    fun openPrompt(): PromptProgram? = manifest.artifact(Manifest.PROMPT)?.let { artifact ->
        PromptProgram.parse(File(directory, artifact.file).readText())
    }

    /** The content of `golden.json`; null if the bundle has none. */
    fun openGolden(): JsonFields? = manifest.artifact(Manifest.GOLDEN)?.let { artifact ->
        JsonFields.parse(artifact.file, File(directory, artifact.file).readText())
    }

    /** Opens the program with the factory of the bundle's backend. Call [verify] before. */
    @OptIn(InternalSatchelApi::class)
    fun openEngine(factories: Iterable<TokenEngineFactory>, threads: Int): TokenEngine {
        objection(manifest, DeviceFacts.read(), factories)?.let { throw SatchelException.Unavailable(it) }
        val factory = factories.first { it.backend == manifest.backend }
        val program = manifest.requireArtifact(Manifest.PROGRAM).file
        val engine = factory.open(File(directory, program), threads)
        val expected = listOf(manifest.vocabSize, manifest.contextLength, manifest.prefillChunk)
        val actual = listOf(engine.vocabSize, engine.contextLength, engine.prefillChunk)
        if (actual != expected) {
            engine.close()
            throw SatchelException.BundleCorrupt(
                program,
                "vocabulary, context and chunk $expected as in ${Manifest.FILE}",
                "$actual",
            )
        }
        return engine
    }

    companion object {
        private val INSTALLED_ROLES = setOf(Manifest.PROGRAM, Manifest.TOKENIZER, Manifest.PROMPT, Manifest.GOLDEN)
        private val NO_OUTPUT = object : OutputStream() {
            override fun write(b: Int) = Unit

            override fun write(b: ByteArray, off: Int, len: Int) = Unit
        }

        /** @throws SatchelException if [directory] holds no bundle for this library */
        fun open(directory: File): Bundle {
            val text = try {
                File(directory, Manifest.FILE).readText()
            } catch (e: IOException) {
                throw SatchelException.BundleCorrupt(Manifest.FILE, "a manifest in $directory", "none", e)
            }
            return Bundle(directory, Manifest.parse(text))
        }

        /** The engines on the class path. */
        fun factories(): Iterable<TokenEngineFactory> =
            ServiceLoader.load(TokenEngineFactory::class.java, TokenEngineFactory::class.java.classLoader)

        /** The files that a device needs; a bundle has more of them. */
        fun installedArtifacts(manifest: Manifest): List<Manifest.Artifact> =
            manifest.artifacts.filter { it.role in INSTALLED_ROLES }
    }
}

/** A hash over all files that a device needs. */
internal fun contentVersion(manifest: Manifest): String {
    val content = Bundle.installedArtifacts(manifest).joinToString("") { it.role + it.sha256 }
    val digest = MessageDigest.getInstance("SHA-256").digest(content.encodeToByteArray())
    return digest.joinToString("") { "%02x".format(it) }
}

private const val COPY_BUFFER = 1 shl 16

/** Copies [artifact] while its size and hash are checked. @throws SatchelException.BundleCorrupt if they differ */
internal fun copyVerified(
    input: InputStream,
    output: OutputStream,
    artifact: Manifest.Artifact,
    onProgress: () -> Unit,
) {
    val digest = MessageDigest.getInstance("SHA-256")
    val buffer = ByteArray(COPY_BUFFER)
    var bytes = 0L
    while (true) {
        onProgress()
        val count = input.read(buffer)
        if (count < 0) break
        bytes += count
        if (bytes > artifact.bytes) break // a longer file is wrong however it goes on
        digest.update(buffer, 0, count)
        output.write(buffer, 0, count)
    }
    if (bytes != artifact.bytes) {
        throw SatchelException.BundleCorrupt(artifact.file, "${artifact.bytes} bytes", "$bytes or more")
    }
    val actual = digest.digest().joinToString("") { "%02x".format(it) }
    if (actual != artifact.sha256) {
        throw SatchelException.BundleCorrupt(artifact.file, "sha256 ${artifact.sha256}", actual)
    }
}
