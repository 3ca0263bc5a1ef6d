package dev.satchel

import java.io.File
import java.io.IOException

/** What Linux, Android included, says of memory. */
internal object ProcessMemory {
    /** Most memory that this process had at any time so far; null where the system does not tell. */
    fun peakBytes(): Long? = kilobytes("/proc/self/status", "VmHWM:")

    /** Memory that a process could take now without others being pushed out; null where the system does not tell. */
    fun availableBytes(): Long? = kilobytes("/proc/meminfo", "MemAvailable:")

    private fun kilobytes(file: String, name: String): Long? = try {
        File(file).useLines { lines -> lines.find { it.startsWith(name) } }
            ?.substringAfter(':')?.trim()?.substringBefore(' ')?.toLongOrNull()?.let { it * BYTES }
    } catch (_: IOException) {
        null
    }

    private const val BYTES = 1024L
}
