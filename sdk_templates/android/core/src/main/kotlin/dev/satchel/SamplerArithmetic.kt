package dev.satchel

import kotlin.math.floor

private const val SMALLEST_EXPONENT = -708.0
private const val EXPONENT_BIAS = 1023
private const val FRACTION_BITS = 52
private val LOG2_E = Double.fromBits(0x3FF71547652B82FE)
private val LN2_HIGH = Double.fromBits(0x3FE62E42FEE00000)
private val LN2_LOW = Double.fromBits(0x3DEA39EF35793C76)

/** 1 / n! for n = 0 to 13. */
private val COEFFICIENTS = DoubleArray(14).also { coefficients ->
    var factorial = 1.0
    for (n in coefficients.indices) {
        if (n > 0) factorial *= n
        coefficients[n] = 1.0 / factorial
    }
}

/** exp(z) for z <= 0 by additions and multiplications in a fixed order; 0 below -708. */
internal fun exponential(z: Double): Double {
    if (z < SMALLEST_EXPONENT) return 0.0
    val k = floor(z * LOG2_E + 0.5)
    val r = (z - k * LN2_HIGH) - k * LN2_LOW
    var p = COEFFICIENTS[COEFFICIENTS.size - 1]
    for (n in COEFFICIENTS.size - 2 downTo 0) p = p * r + COEFFICIENTS[n]
    return p * Double.fromBits((k.toLong() + EXPONENT_BIAS) shl FRACTION_BITS)
}

/** xoshiro256** by Blackman and Vigna, seeded by SplitMix64. */
internal class Xoshiro256(
    seed: Long,
) {
    private val words = LongArray(4)

    init {
        var state = seed
        for (index in words.indices) {
            state += -0x61c8864680b583ebL // 0x9E3779B97F4A7C15
            var mixed = (state xor (state ushr 30)) * -0x40a7b892e31b1a47L // 0xBF58476D1CE4E5B9
            mixed = (mixed xor (mixed ushr 27)) * -0x6b2fb644ecceee15L // 0x94D049BB133111EB
            words[index] = mixed xor (mixed ushr 31)
        }
    }

    /** The next 64 random bits. */
    fun next(): Long {
        val result = (words[1] * 5).rotateLeft(7) * 9
        val shifted = words[1] shl 17
        words[2] = words[2] xor words[0]
        words[3] = words[3] xor words[1]
        words[1] = words[1] xor words[2]
        words[0] = words[0] xor words[3]
        words[2] = words[2] xor shifted
        words[3] = words[3].rotateLeft(45)
        return result
    }

    /** A number from 0 (included) to 1 (excluded), a multiple of 2^-53. */
    fun uniform(): Double = (next() ushr 11) * UNIT

    private companion object {
        const val UNIT = 1.0 / (1L shl 53)
    }
}
