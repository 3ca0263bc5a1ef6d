package com.google.ai.edge.litert

/** Hardware that a model can be compiled for. */
public enum class Accelerator(
    public val value: Int,
) {
    NONE(0),
    CPU(1),
    GPU(2),
    NPU(3),
}
