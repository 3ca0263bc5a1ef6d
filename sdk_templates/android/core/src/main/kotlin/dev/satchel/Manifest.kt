package dev.satchel

/** The version of this library; a bundle names the lowest one that can run it. */
internal const val SDK_VERSION = "0.1.0"

/** What a bundle's `manifest.json` says, as far as this library needs it. Unknown fields are left alone. */
internal class Manifest private constructor(
    root: JsonFields,
) {
    /** One file of the bundle. */
    class Artifact(
        val role: String,
        val file: String,
        val bytes: Long,
        val sha256: String,
    )

    val modelId: String = root.obj("model").string("id")
    val recipe: String = root.string("recipe")
    val backend: String = root.string("backend")
    val contextLength: Int = root.int("context_length")
    val prefillChunk: Int = root.int("prefill_chunk")
    val vocabSize: Int = root.int("vocab_size")
    val stopIds: Set<Int> = root.obj("special_ids").ints("stop").toSet()
    val defaultTemperature: Double = root.obj("generation_defaults").double("temperature")
    val defaultMaxNewTokens: Int = root.obj("generation_defaults").int("max_new_tokens")
    val requiredSdk: String = root.obj("requires").string("sdk")
    val requiredRuntime: String = root.obj("requires").string("runtime")
    val requiredCpuFeatures: Map<String, List<String>> =
        root.obj("requires").optionalObj("cpu_features")?.stringLists().orEmpty()
    val artifacts: List<Artifact> = root.objects("artifacts").map {
        Artifact(it.string("role"), plainName(it.string("file")), it.long("bytes"), it.string("sha256"))
    }

    /** Memory that the model takes, as the exporter predicts it; a manifest without it is taken at its program's size. */
    val requiredMemoryBytes: Long =
        root.obj("requires").optionalLong("memory_bytes") ?: artifact(PROGRAM)?.bytes ?: 0L

    fun artifact(role: String): Artifact? = artifacts.find { it.role == role }

    fun requireArtifact(role: String): Artifact =
        artifact(role) ?: throw SatchelException.BundleCorrupt(FILE, "an artifact with the role $role", "none")

    companion object {
        const val FILE = "manifest.json"
        const val PROGRAM = "program"
        const val TOKENIZER = "tokenizer"
        const val PROMPT = "prompt"
        const val GOLDEN = "golden"
        private const val SCHEMA_VERSION = 1

        /**
         * Reads the text of a `manifest.json`.
         *
         * @throws SatchelException.BundleCorrupt if it is no manifest
         * @throws SatchelException.Unavailable if it, or the bundle, is for a newer library
         */
        fun parse(text: String): Manifest {
            val root = JsonFields.parse(FILE, text)
            val schema = root.int("schema_version")
            if (schema != SCHEMA_VERSION) {
                val reason = UnavailableReason.SdkTooOld(
                    "for schema $schema",
                    "$SDK_VERSION, for schema $SCHEMA_VERSION",
                )
                throw SatchelException.Unavailable(reason)
            }
            val manifest = Manifest(root)
            if (compareVersions(manifest.requiredSdk, SDK_VERSION) > 0) {
                val reason = UnavailableReason.SdkTooOld(manifest.requiredSdk, SDK_VERSION)
                throw SatchelException.Unavailable(reason)
            }
            return manifest
        }

        private fun plainName(name: String): String {
            if (name.isEmpty() || name.startsWith(".") || name.any { it == '/' || it == '\\' }) {
                throw SatchelException.BundleCorrupt(FILE, "plain file names", "'$name'")
            }
            return name
        }
    }
}

/** Compares dotted versions number by number; what is not a number counts as 0. */
internal fun compareVersions(left: String, right: String): Int {
    val a = left.split('.').map { it.toIntOrNull() ?: 0 }
    val b = right.split('.').map { it.toIntOrNull() ?: 0 }
    return (0 until maxOf(a.size, b.size))
        .map { a.getOrElse(it) { 0 }.compareTo(b.getOrElse(it) { 0 }) }
        .firstOrNull { it != 0 } ?: 0
}
