package com.google.ai.edge.litert

/**
 * Stand-in for the Android runtime's class of this name, over the host's library: the same signatures and exceptions,
 * as far as the SDK's engine uses them. Never part of a published library.
 */
public class CompiledModel private constructor(
    handle: Long,
) : JniHandle(handle) {
    /** How to compile for the CPU; null for the runtime's own choice. */
    public data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    /** What to compile for. */
    public class Options(
        internal val accelerators: Set<Accelerator>,
    ) {
        public constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        public var cpuOptions: CpuOptions? = null

        public companion object {
            @JvmStatic
            public val CPU: Options = Options(Accelerator.CPU)
        }
    }

    /** Memory for an input of a signature. */
    public fun createInputBuffer(inputName: String, signature: String = ""): TensorBuffer =
        TensorBuffer(Native.createBuffer(live(), signature, inputName, false))

    /** Memory for an output of a signature. */
    public fun createOutputBuffer(outputName: String, signature: String = ""): TensorBuffer =
        TensorBuffer(Native.createBuffer(live(), signature, outputName, true))

    /**
     * Runs a signature. A buffer may be an input and an output.
     *
     * @throws LiteRtException if one of the signature's inputs or outputs is missing, or the runtime fails
     */
    public fun run(
        inputs: Map<String, TensorBuffer>,
        outputs: Map<String, TensorBuffer>,
        signature: String = "",
    ): Unit = Native.run(
        live(),
        signature,
        inputs.keys.toTypedArray(),
        inputs.values.map { it.live() }.toLongArray(),
        outputs.keys.toTypedArray(),
        outputs.values.map { it.live() }.toLongArray(),
    )

    override fun destroy(): Unit = Native.close(handle)

    public companion object {
        /** Opens and compiles a program. @throws LiteRtException if it can't be read or compiled */
        @JvmOverloads
        @JvmStatic
        public fun create(
            filePath: String,
            options: Options = Options.CPU,
            optionalEnv: Environment? = null,
        ): CompiledModel {
            require(options.accelerators == setOf(Accelerator.CPU)) { "The host has a CPU only" }
            require(optionalEnv == null) { "On the host every model has its own environment" }
            val cpu = options.cpuOptions ?: CpuOptions()
            require(cpu.xnnPackFlags == null && cpu.xnnPackWeightCachePath == null) { "Not on the host: $cpu" }
            return CompiledModel(Native.open(filePath.encodeToByteArray(), cpu.numThreads ?: 0))
        }
    }
}
