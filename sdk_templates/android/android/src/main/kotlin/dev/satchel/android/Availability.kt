package dev.satchel.android

import android.content.Context
import dev.satchel.Availability
import dev.satchel.InternalSatchelApi
import dev.satchel.SatchelModel
import dev.satchel.UnavailableReason
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext
import java.io.File

/**
 * Whether the model that a model library put into the app's assets can be loaded on this device, without unpacking or
 * loading it: the versions it needs, the processor, the memory that is free now, and the storage if it is not unpacked
 * yet. Takes milliseconds. Safe to call from the main thread.
 *
 * Memory and storage change all the time, so [load] does not refuse for want of memory: this is advice.
 *
 * @param name the model library's name, as in [load]
 * @throws IllegalArgumentException if there is no model of that name, or more than one and no name is given
 */
@OptIn(InternalSatchelApi::class)
public suspend fun SatchelModel.Companion.availability(context: Context, name: String? = null): Availability =
    withContext(Dispatchers.IO) {
        val models = AppModels(context)
        val chosen = models.choose(name)
        val manifest = models.manifest(chosen)
        val availability = SatchelModel.availabilityOf(manifest, deviceFacts(context))
        if (availability !is Availability.Available) return@withContext availability
        val missing = models.installer.missingBytes(chosen, manifest)
        val free = models.freeBytes()
        if (missing <= free) return@withContext availability
        Availability.Unavailable(UnavailableReason.NotEnoughStorage(missing, free))
    }

/**
 * The same for a bundle in a folder of the app's own, whose files are also compared with their hashes: for a model that
 * was downloaded, say. Load it with `SatchelModel.load(directory)`.
 */
@OptIn(InternalSatchelApi::class)
public suspend fun SatchelModel.Companion.availability(context: Context, directory: File): Availability {
    val availability = SatchelModel.availability(directory)
    val isMemory = (availability as? Availability.Unavailable)?.reason is UnavailableReason.NotEnoughMemory
    if (availability !is Availability.Available && !isMemory) return availability
    // Android knows better than Linux what memory an app can take.
    return withContext(Dispatchers.IO) {
        SatchelModel.availabilityOf(File(directory, "manifest.json").readText(), deviceFacts(context))
    }
}
