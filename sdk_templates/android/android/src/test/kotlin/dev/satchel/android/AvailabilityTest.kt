package dev.satchel.android

import android.app.ActivityManager
import android.content.Context
import dev.satchel.Availability
import dev.satchel.InternalSatchelApi
import dev.satchel.SatchelModel
import dev.satchel.TestBundle
import dev.satchel.UnavailableReason
import kotlinx.coroutines.runBlocking
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import java.io.File
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertIs
import kotlin.test.assertTrue

@RunWith(RobolectricTestRunner::class)
@Config(sdk = [35])
class AvailabilityTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val context: Context get() = RuntimeEnvironment.getApplication()

    @Before
    fun `there is memory`() = setMemory(available = 900_000_000, threshold = 100_000_000)

    private fun setMemory(available: Long, threshold: Long) {
        val memory = ActivityManager.MemoryInfo()
        memory.availMem = available
        memory.threshold = threshold
        shadowOf(context.getSystemService(ActivityManager::class.java)).setMemoryInfo(memory)
    }

    private fun addModel(name: String = "tiny-float", edit: (String) -> String = { it }) =
        addModel(context, temporary.newFile("$name.apk"), name, TestBundle.write(temporary.newFolder(), edit = edit))

    private inline fun <reified T : UnavailableReason> Availability.reason(): T =
        assertIs<T>(assertIs<Availability.Unavailable>(this).reason)

    /** A manifest that says how much memory its model takes. */
    private fun needing(bytes: Long) = { manifest: String ->
        manifest.replace("\"requires\": {", "\"requires\": {\"memory_bytes\": $bytes, ")
    }

    @Test
    fun `a model that fits is available, and asking unpacks nothing`() = runBlocking {
        addModel(edit = needing(800_000_000))
        assertIs<Availability.Available>(SatchelModel.availability(context))
        assertTrue(!File(context.noBackupFilesDir, "satchel").exists())
    }

    @Test
    fun `memory that the system wants to keep free does not count`() = runBlocking {
        addModel(edit = needing(800_000_001))
        val reason = SatchelModel.availability(context).reason<UnavailableReason.NotEnoughMemory>()
        assertEquals(800_000_001, reason.requiredBytes)
        assertEquals(800_000_000, reason.availableBytes)
        setMemory(available = 50_000_000, threshold = 100_000_000)
        assertEquals(0, SatchelModel.availability(context).reason<UnavailableReason.NotEnoughMemory>().availableBytes)
    }

    @Test
    @OptIn(InternalSatchelApi::class)
    fun `storage is needed until the model is unpacked`() = runBlocking {
        addModel("large") { needing(1)(it).replace("\"bytes\": 9,", "\"bytes\": ${Long.MAX_VALUE / 2},") }
        val reason = SatchelModel.availability(context, "large").reason<UnavailableReason.NotEnoughStorage>()
        assertTrue(reason.requiredBytes > Long.MAX_VALUE / 2)
        assertTrue(reason.availableBytes in 1 until reason.requiredBytes)
        addModel("small")
        val models = AppModels(context)
        assertTrue(models.installer.missingBytes("small", models.manifest("small")) > 1000)
        SatchelModel.load(context, "small").close()
        assertEquals(0, models.installer.missingBytes("small", models.manifest("small")))
    }

    @Test
    fun `what the manifest asks for and is not here is the reason`() = runBlocking {
        addModel("new-sdk") { it.replace("\"sdk\": \"0.1.0\"", "\"sdk\": \"99.0\"") }
        val sdk = SatchelModel.availability(context, "new-sdk").reason<UnavailableReason.SdkTooOld>()
        assertEquals("99.0", sdk.required)
        addModel("new-runtime") { it.replace("\"runtime\": \"1.5.0\"", "\"runtime\": \"1.6\"") }
        SatchelModel.availability(context, "new-runtime").reason<UnavailableReason.RuntimeTooOld>()
        addModel("other") { it.replace("\"backend\": \"fake\"", "\"backend\": \"other\"") }
        val engine = SatchelModel.availability(context, "other").reason<UnavailableReason.NoEngine>()
        assertEquals(listOf("fake"), engine.found)
        addModel("broken") { "no manifest" }
        SatchelModel.availability(context, "broken").reason<UnavailableReason.BundleCorrupt>()
        assertFailsWith<IllegalArgumentException> { SatchelModel.availability(context, "none") }
        Unit
    }

    @Test
    fun `a bundle in a folder is compared with its hashes too`() = runBlocking {
        val folder = TestBundle.write(temporary.newFolder(), edit = needing(800_000_000))
        assertIs<Availability.Available>(SatchelModel.availability(context, folder))
        setMemory(available = 800_000_000, threshold = 1)
        SatchelModel.availability(context, folder).reason<UnavailableReason.NotEnoughMemory>()
        File(folder, "model.pte").appendText("x")
        assertEquals(
            "model.pte",
            SatchelModel.availability(context, folder).reason<UnavailableReason.BundleCorrupt>().file,
        )
    }

    @Test
    fun `languages without coroutines get futures`() {
        addModel()
        assertIs<Availability.Available>(availabilityAsync(context).get())
        loadAsync(context).get().use { model -> assertEquals("tiny", model.id) }
    }
}
