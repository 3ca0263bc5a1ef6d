package dev.satchel

import java.io.File
import java.io.IOException

/** Whether a model can be loaded on this device. */
public sealed class Availability {
    /** It can. */
    public object Available : Availability() {
        /** For logs. */
        override fun toString(): String = "Available"
    }

    /**
     * It can't.
     *
     * @property reason why not
     */
    public class Unavailable @InternalSatchelApi constructor(
        public val reason: UnavailableReason,
    ) : Availability() {
        /** For logs. */
        override fun toString(): String = "Unavailable(${reason.message})"
    }
}

/**
 * Why a model can't be loaded. Subclasses name the cause; more may come in later versions.
 *
 * @property message the reason and what to do, in one sentence
 */
public abstract class UnavailableReason internal constructor(
    public val message: String,
) {
    /** For logs. */
    override fun toString(): String = message

    /**
     * The model needs more memory than is free. An estimate, which changes by the second: other apps may give some back.
     *
     * @property requiredBytes what the model takes
     * @property availableBytes what is free
     */
    public class NotEnoughMemory @InternalSatchelApi constructor(
        public val requiredBytes: Long,
        public val availableBytes: Long,
    ) : UnavailableReason(
        "The model needs ${megabytes(requiredBytes)} of memory and ${megabytes(availableBytes)} are free; " +
            "close other apps, or choose a smaller model",
    )

    /**
     * The model needs more storage than is free.
     *
     * @property requiredBytes what the model takes
     * @property availableBytes what is free
     */
    public class NotEnoughStorage @InternalSatchelApi constructor(
        public val requiredBytes: Long,
        public val availableBytes: Long,
    ) : UnavailableReason(
        "The model needs ${megabytes(requiredBytes)} of storage and " +
            "${megabytes(availableBytes)} are free; free some",
    )

    /**
     * The runtime has no code for this kind of processor.
     *
     * @property abi the processor's
     * @property supported those that there is code for
     */
    public class UnsupportedAbi internal constructor(
        public val abi: String,
        public val supported: List<String>,
    ) : UnavailableReason("The runtime has no code for $abi, only for ${supported.joinToString()}; use another device")

    /**
     * The model's program uses instructions that this processor does not have.
     *
     * @property missing their names, as in `/proc/cpuinfo`
     */
    public class MissingCpuFeatures internal constructor(
        public val missing: List<String>,
    ) : UnavailableReason("This device's processor lacks ${missing.joinToString()}; use another device")

    /**
     * A file of the bundle is missing or damaged.
     *
     * @property file the file's name inside the bundle
     * @property expected what the manifest or the format asks for
     * @property actual what was found
     */
    public class BundleCorrupt internal constructor(
        public val file: String,
        public val expected: String,
        public val actual: String,
    ) : UnavailableReason("$file of the bundle is damaged: expected $expected, found $actual; install it again")

    /**
     * The bundle needs a newer runtime.
     *
     * @property required the oldest version that can run it
     * @property actual the version that there is
     */
    public class RuntimeTooOld internal constructor(
        public val required: String,
        public val actual: String,
    ) : UnavailableReason("The bundle needs runtime $required and this is $actual; update the engine's library")

    /**
     * The bundle needs a newer Satchel.
     *
     * @property required the oldest version that can read it
     * @property actual the version that there is
     */
    public class SdkTooOld internal constructor(
        public val required: String,
        public val actual: String,
    ) : UnavailableReason("The bundle needs Satchel $required and this is $actual; update the library")

    /**
     * No library with an engine for this bundle is on the class path.
     *
     * @property backend what the bundle needs
     * @property found what there is
     */
    public class NoEngine internal constructor(
        public val backend: String,
        public val found: List<String>,
    ) : UnavailableReason(
        "No engine for $backend is on the class path, only $found; add the library satchel-$backend",
    )

    /**
     * The runtime's own native code can't be loaded.
     *
     * @property detail the system's words
     */
    public class RuntimeMissing @InternalSatchelApi constructor(
        public val detail: String,
    ) : UnavailableReason("The runtime's native code can't be loaded: $detail; use the libraries that Satchel names")
}

/**
 * What a bundle's needs are compared with.
 *
 * @property abi Android's name of the kind of processor
 * @property cpuFeatures what all its cores have; null where the system does not tell
 * @property availableMemoryBytes memory that the app can still take; null where the system does not tell
 * @suppress
 */
@InternalSatchelApi
public class DeviceFacts(
    public val abi: String,
    public val cpuFeatures: Set<String>?,
    public val availableMemoryBytes: Long?,
) {
    /** Reads the facts. */
    public companion object {
        private val ABIS = mapOf("aarch64" to "arm64-v8a", "amd64" to "x86_64", "i386" to "x86", "i686" to "x86")

        /** What the system says of itself. */
        public fun read(): DeviceFacts {
            val architecture = System.getProperty("os.arch").orEmpty()
            val abi = ABIS[architecture] ?: if (architecture.startsWith("arm")) "armeabi-v7a" else architecture
            val features = try {
                cpuFeatures(File("/proc/cpuinfo").readText())
            } catch (_: IOException) {
                null // not every sandbox shows it; the kernels then find out themselves
            }
            return DeviceFacts(abi, features, ProcessMemory.availableBytes())
        }
    }
}

/** The features that all cores in a `/proc/cpuinfo` have. */
internal fun cpuFeatures(cpuinfo: String): Set<String> = cpuinfo.lineSequence()
    .filter { it.startsWith("Features") }
    .map { it.substringAfter(':').trim().split(' ').toSet() }
    .reduceOrNull { all, core -> all intersect core }
    .orEmpty()

/** Why the bundle of [manifest] can't be loaded with one of [factories]; null if it can. Memory is not looked at. */
@OptIn(InternalSatchelApi::class)
internal fun objection(
    manifest: Manifest,
    device: DeviceFacts,
    factories: Iterable<TokenEngineFactory>,
): UnavailableReason? {
    val factory = factories.find { it.backend == manifest.backend }
        ?: return UnavailableReason.NoEngine(manifest.backend, factories.map { it.backend })
    if (compareVersions(manifest.requiredRuntime, factory.runtimeVersion) > 0) {
        return UnavailableReason.RuntimeTooOld(manifest.requiredRuntime, factory.runtimeVersion)
    }
    if (factory.abis.isNotEmpty() && device.abi !in factory.abis) {
        return UnavailableReason.UnsupportedAbi(device.abi, factory.abis.toList())
    }
    val missing = manifest.requiredCpuFeatures[device.abi].orEmpty() - device.cpuFeatures.orEmpty()
    if (device.cpuFeatures != null && missing.isNotEmpty()) return UnavailableReason.MissingCpuFeatures(missing)
    return null
}

/** Whether the bundle of [manifest] can be loaded with one of [factories] and finds the memory it needs. */
@OptIn(InternalSatchelApi::class)
internal fun availabilityOf(
    manifest: Manifest,
    device: DeviceFacts,
    factories: Iterable<TokenEngineFactory>,
): Availability {
    val reason = objection(manifest, device, factories) ?: memoryObjection(manifest, device)
    return if (reason == null) Availability.Available else Availability.Unavailable(reason)
}

@OptIn(InternalSatchelApi::class)
private fun memoryObjection(manifest: Manifest, device: DeviceFacts): UnavailableReason? {
    val available = device.availableMemoryBytes ?: return null
    val required = manifest.requiredMemoryBytes
    return if (available < required) UnavailableReason.NotEnoughMemory(required, available) else null
}

/** [body]'s result, or the reason that keeps the bundle from being read. */
@OptIn(InternalSatchelApi::class)
internal inline fun availabilityOr(body: () -> Availability): Availability = try {
    body()
} catch (e: SatchelException.Unavailable) {
    Availability.Unavailable(e.reason)
} catch (e: SatchelException.BundleCorrupt) {
    Availability.Unavailable(UnavailableReason.BundleCorrupt(e.file, e.expected, e.actual))
}

private const val MEGABYTE = 1_000_000L

private fun megabytes(bytes: Long): String = "${(bytes + MEGABYTE - 1) / MEGABYTE} MB"
