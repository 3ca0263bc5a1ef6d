package dev.satchel.android

import android.app.ActivityManager
import android.content.Context
import dev.satchel.BundleInstaller
import dev.satchel.DeviceFacts
import dev.satchel.InternalSatchelApi
import java.io.File

private const val FOLDER = "satchel"
private const val MANIFEST = "manifest.json"

/**
 * The models in an app's assets, and where they are unpacked to: a folder of the app that is never backed up.
 *
 * Everything here, the constructor included, reads files, so it is for other threads than the main one.
 */
@OptIn(InternalSatchelApi::class)
internal class AppModels(
    context: Context,
) {
    private val assets = context.assets
    private val storage: File = context.noBackupFilesDir

    val installer = BundleInstaller(File(storage, FOLDER), ::freeBytes)

    /** The name of the one that is meant. @throws IllegalArgumentException if there is none, or more than one */
    fun choose(name: String?): String {
        // A listing may go deeper than the folders of the models (Robolectric's does).
        val present = assets.list(FOLDER).orEmpty().map { it.substringBefore('/') }.distinct().sorted()
        if (name != null) {
            require(name in present) {
                "The app has no model '$name'; it has ${present.joinToString().ifEmpty { "none" }}"
            }
            return name
        }
        require(present.isNotEmpty()) { "The app has no model: add a model library to its dependencies" }
        require(present.size == 1) { "The app has several models: name one of ${present.joinToString()}" }
        return present.single()
    }

    fun open(model: String, file: String) = assets.open("$FOLDER/$model/$file")

    /** The text of the model's manifest. */
    fun manifest(model: String): String = open(model, MANIFEST).use { it.readBytes().decodeToString() }

    fun freeBytes(): Long = storage.usableSpace
}

/** The device as the system describes it, with the memory that an app can take before others are ended for it. */
@OptIn(InternalSatchelApi::class)
internal fun deviceFacts(context: Context): DeviceFacts {
    val memory = ActivityManager.MemoryInfo()
    checkNotNull(context.getSystemService(ActivityManager::class.java)) { "Android without an ActivityManager" }
        .getMemoryInfo(memory)
    val device = DeviceFacts.read()
    return DeviceFacts(device.abi, device.cpuFeatures, maxOf(0, memory.availMem - memory.threshold))
}
