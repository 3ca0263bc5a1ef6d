package dev.satchel.android

import android.content.Context
import android.os.PowerManager
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.util.ReflectionHelpers
import kotlin.test.assertEquals
import kotlin.test.assertNull

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
class ThermalStatusTest {
    private val context: Context get() = RuntimeEnvironment.getApplication()
    private val power = shadowOf(context.getSystemService(PowerManager::class.java))

    @Test
    fun `every step of the system has its name`() {
        for (status in ThermalStatus.entries) {
            power.setCurrentThermalStatus(status.ordinal)
            assertEquals(status, ThermalStatus.now(context))
        }
        assertEquals(PowerManager.THERMAL_STATUS_SEVERE, ThermalStatus.SEVERE.ordinal)
        assertEquals(PowerManager.THERMAL_STATUS_SHUTDOWN, ThermalStatus.SHUTDOWN.ordinal)
    }

    @Test
    fun `changes start with the present and end with the collector`() = runBlocking {
        power.setCurrentThermalStatus(PowerManager.THERMAL_STATUS_LIGHT)
        val seen = ArrayList<ThermalStatus>()
        val collector = launch(Dispatchers.Unconfined, CoroutineStart.UNDISPATCHED) {
            ThermalStatus.changes(context).collect { seen += it }
        }
        for (status in listOf(PowerManager.THERMAL_STATUS_LIGHT, PowerManager.THERMAL_STATUS_SEVERE)) {
            power.setCurrentThermalStatus(status)
        }
        assertEquals(listOf(ThermalStatus.LIGHT, ThermalStatus.SEVERE), seen)
        assertEquals(1, power.thermalStatusListeners.size)
        collector.cancel()
        collector.join()
        assertEquals(0, power.thermalStatusListeners.size)
    }

    @Test
    fun `an Android that knows no status gives none`() = runBlocking {
        ReflectionHelpers.setStaticField(android.os.Build.VERSION::class.java, "SDK_INT", 28)
        assertNull(ThermalStatus.now(context))
        assertEquals(emptyList(), ThermalStatus.changes(context).toList())
    }
}
