package dev.satchel.android

import android.content.Context
import android.os.Build
import android.os.PowerManager
import kotlinx.coroutines.channels.awaitClose
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.callbackFlow
import kotlinx.coroutines.flow.conflate
import kotlinx.coroutines.flow.distinctUntilChanged
import kotlinx.coroutines.flow.emptyFlow

/**
 * How warm the device is, in the system's own steps: a warm one is slowed down, so generating takes longer. From
 * [SEVERE] on an app does well to generate less, or later.
 */
public enum class ThermalStatus {
    /** Nothing is slowed down. */
    NONE,

    /** Slowed down in ways that a user does not notice. */
    LIGHT,

    /** Slowed down a little. */
    MODERATE,

    /** Slowed down so that a user notices. */
    SEVERE,

    /** Everything that can be done against the heat is done. */
    CRITICAL,

    /** Parts of the device are being shut down. */
    EMERGENCY,

    /** The device is about to shut down. */
    SHUTDOWN,
    ;

    /** Where the system's own figure is read. */
    public companion object {
        /** The status at this moment; null before Android 10, which tells none. */
        @JvmStatic
        public fun now(context: Context): ThermalStatus? =
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) Android10.thermalStatus(powerManager(context)) else null

        /**
         * The status at this moment and whenever it changes, for as long as it is collected; a slow collector gets the
         * latest only. Empty before Android 10.
         */
        public fun changes(context: Context): Flow<ThermalStatus> =
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                Android10.thermalStatuses(powerManager(context)).conflate().distinctUntilChanged()
            } else {
                emptyFlow()
            }

        private fun powerManager(context: Context) =
            checkNotNull(context.getSystemService(PowerManager::class.java)) { "Android without a PowerManager" }
    }
}

/** Calls of API level 29, made after a look at the level. */
@ChecksApiLevel
private object Android10 {
    fun thermalStatus(power: PowerManager): ThermalStatus = status(power.currentThermalStatus)

    fun thermalStatuses(power: PowerManager): Flow<ThermalStatus> = callbackFlow {
        val listener = PowerManager.OnThermalStatusChangedListener { trySend(status(it)) }
        power.addThermalStatusListener(listener)
        trySend(thermalStatus(power))
        awaitClose { power.removeThermalStatusListener(listener) }
    }

    // A step that a later Android may add above the last is at least as hot as that.
    private fun status(code: Int) = ThermalStatus.entries[code.coerceIn(0, ThermalStatus.entries.lastIndex)]
}
