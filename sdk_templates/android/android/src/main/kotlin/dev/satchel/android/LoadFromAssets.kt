package dev.satchel.android

import android.content.Context
import dev.satchel.InternalSatchelApi
import dev.satchel.SatchelException
import dev.satchel.SatchelModel
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.withContext
import java.io.File

/**
 * Opens the model that a model library put into the app's assets.
 *
 * The first load unpacks it into the app's storage that is never backed up, verifying every byte; later loads only
 * verify, and unpack again what was damaged since. When a new version has opened, files of older versions are removed.
 * Safe to call from the main thread.
 *
 * @param name the model library's name, such as `smollm2-135m-instruct-int4`; may be left out if the app has one model
 * @param threads number of threads to compute with, 0 for the runtime's own choice
 * @throws IllegalArgumentException if there is no model of that name, or more than one and no name is given, or if
 * [threads] is negative
 * @throws java.io.IOException if the files can't be written
 * @throws SatchelException.StorageFull if the unpacked model does not fit
 * @throws SatchelException.BundleCorrupt if a file is damaged
 * @throws SatchelException.Unavailable if this device, or this version of the library, can't run the model
 * @throws SatchelException.RuntimeFailure if the runtime can't load the program
 */
@OptIn(InternalSatchelApi::class)
public suspend fun SatchelModel.Companion.load(
    context: Context,
    name: String? = null,
    threads: Int = 0,
): SatchelModel {
    val models = withContext(Dispatchers.IO) { AppModels(context) }
    val chosen = withContext(Dispatchers.IO) { models.choose(name) }
    val directory = models.install(chosen)
    val model = try {
        SatchelModel.load(directory, threads)
    } catch (_: SatchelException.BundleCorrupt) {
        withContext(Dispatchers.IO) { models.installer.remove(directory) }
        SatchelModel.load(models.install(chosen), threads)
    }
    try {
        withContext(Dispatchers.IO) { models.installer.removeOthers(chosen, directory) }
    } catch (e: CancellationException) {
        model.close() // nobody will get it
        throw e
    }
    return model
}

@OptIn(InternalSatchelApi::class)
private suspend fun AppModels.install(model: String): File = withContext(Dispatchers.IO) {
    installer.install(model, { file -> open(model, file) }) { ensureActive() }
}
