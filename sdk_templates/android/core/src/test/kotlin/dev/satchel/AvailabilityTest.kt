package dev.satchel

import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.test.Test
import kotlin.test.assertContains
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertIs

@OptIn(InternalSatchelApi::class)
class AvailabilityTest {
    @TempDir
    lateinit var folder: File

    private val phone = DeviceFacts("arm64-v8a", setOf("fp", "asimd", "asimddp"), 1_000_000_000)

    private class Factory(
        override val runtimeVersion: String = "1.5.0",
        override val abis: Set<String> = setOf("arm64-v8a", "x86_64"),
    ) : TokenEngineFactory {
        override val backend = "fake"

        override fun open(program: File, threads: Int) = error("nothing is opened before a load")
    }

    private fun manifest(edit: (String) -> String = { it }): Manifest {
        val directory = TestBundle.write(folder) { text ->
            edit(
                text.replace(
                    """"cpu_features": {}""",
                    """"cpu_features": {"arm64-v8a": ["asimddp"]}, "memory_bytes": 200000000""",
                ),
            )
        }
        return Manifest.parse(File(directory, "manifest.json").readText())
    }

    private fun reason(device: DeviceFacts, factory: Factory = Factory(), edit: (String) -> String = { it }) =
        assertIs<Availability.Unavailable>(availabilityOf(manifest(edit), device, listOf(factory))).reason

    @Test
    fun `a device that has everything can run the model`() {
        assertIs<Availability.Available>(availabilityOf(manifest(), phone, listOf(Factory())))
        // What the system does not tell is not held against it.
        assertIs<Availability.Available>(
            availabilityOf(manifest(), DeviceFacts("arm64-v8a", null, null), listOf(Factory())),
        )
    }

    @Test
    fun `memory is named with what is needed and what there is`() {
        val reason = reason(DeviceFacts(phone.abi, phone.cpuFeatures, 199_999_999))
        assertIs<UnavailableReason.NotEnoughMemory>(reason)
        assertEquals(listOf(200_000_000L, 199_999_999L), listOf(reason.requiredBytes, reason.availableBytes))
        assertContains(reason.message, "200 MB")
    }

    @Test
    fun `a bundle that does not say what memory it needs takes its program's size`() {
        val reason =
            reason(DeviceFacts(phone.abi, phone.cpuFeatures, 1)) { it.replace(""", "memory_bytes": 200000000""", "") }
        assertEquals("a program".length.toLong(), assertIs<UnavailableReason.NotEnoughMemory>(reason).requiredBytes)
    }

    @Test
    fun `a processor without the runtime's code or the program's instructions is named`() {
        val abi = assertIs<UnavailableReason.UnsupportedAbi>(reason(DeviceFacts("armeabi-v7a", emptySet(), null)))
        assertEquals("armeabi-v7a" to listOf("arm64-v8a", "x86_64"), abi.abi to abi.supported)
        val cpu = reason(DeviceFacts("arm64-v8a", setOf("fp", "asimd"), null))
        assertEquals(listOf("asimddp"), assertIs<UnavailableReason.MissingCpuFeatures>(cpu).missing)
    }

    @Test
    fun `versions that are too old are named`() {
        val runtime = assertIs<UnavailableReason.RuntimeTooOld>(reason(phone, Factory(runtimeVersion = "1.4.9")))
        assertEquals("1.5.0" to "1.4.9", runtime.required to runtime.actual)
        val sdk = availabilityOr { availabilityOf(manifest { it.replace("0.1.0", "7.0.0") }, phone, listOf(Factory())) }
        assertIs<UnavailableReason.SdkTooOld>(assertIs<Availability.Unavailable>(sdk).reason)
    }

    @Test
    fun `a damaged bundle is found without a load`() = runTest {
        TestBundle.write(folder)
        assertIs<Availability.Available>(SatchelModel.availability(folder, listOf(Factory(abis = emptySet()))))
        File(folder, "model.pte").writeText("b program")
        val damaged = assertIs<Availability.Unavailable>(SatchelModel.availability(folder, listOf(Factory())))
        assertEquals("model.pte", assertIs<UnavailableReason.BundleCorrupt>(damaged.reason).file)
    }

    @Test
    fun `a load refuses what can't run, but leaves memory to availability`() = runTest {
        val everything = DeviceFacts.read()
        TestBundle.write(folder) { it.replace("1.5.0", "9.0.0") }
        val error = assertFailsWith<SatchelException.Unavailable> { SatchelModel.load(folder, 0, listOf(Factory())) }
        assertIs<UnavailableReason.RuntimeTooOld>(error.reason)
        TestBundle.write(folder) { it.replace(""""cpu_features": {}""", """"memory_bytes": 9000000000000000""") }
        val engine = FakeEngine.saying("a").asFactory()
        SatchelModel.load(folder, 0, engine).close()
        val memory = assertIs<Availability.Unavailable>(SatchelModel.availability(folder, engine)).reason
        assertIs<UnavailableReason.NotEnoughMemory>(memory)
        assertContains(listOf("x86_64", "arm64-v8a"), everything.abi)
    }
}
