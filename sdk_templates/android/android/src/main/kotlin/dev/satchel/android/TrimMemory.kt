package dev.satchel.android

import android.content.ComponentCallbacks2
import android.content.Context
import android.content.res.Configuration
import dev.satchel.SatchelModel
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch

/**
 * Closes the model when the system wants memory back from an app in the background (`onTrimMemory` with
 * `TRIM_MEMORY_BACKGROUND` or above), so that the app itself need not be ended.
 *
 * Closing frees everything that the model holds: its weights and what it remembers of the conversations. It never
 * happens while an answer is being generated, but when that is complete, and not on the main thread. Afterwards the
 * model is closed like by [SatchelModel.close]: load it again when the app is in front again; a conversation goes on with
 * `newSession(history)`. While the app is in front nothing is freed, as the model would be needed again at once.
 *
 * @return ends this; close it together with the model, or sooner
 */
public fun SatchelModel.closeOnTrimMemory(context: Context): AutoCloseable {
    val application = context.applicationContext
    val callbacks = object : ComponentCallbacks2 {
        override fun onTrimMemory(level: Int) {
            if (level >= ComponentCallbacks2.TRIM_MEMORY_BACKGROUND) {
                CoroutineScope(Dispatchers.Default).launch { closeWhenIdle() }
            }
        }

        override fun onConfigurationChanged(newConfig: Configuration) = Unit

        @Deprecated("Deprecated in Java")
        override fun onLowMemory() = Unit // the app may be in front
    }
    application.registerComponentCallbacks(callbacks)
    return AutoCloseable { application.unregisterComponentCallbacks(callbacks) }
}
