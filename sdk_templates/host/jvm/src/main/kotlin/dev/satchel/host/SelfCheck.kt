package dev.satchel.host

import dev.satchel.SatchelModel
import dev.satchel.SelfTestResult
import kotlinx.coroutines.runBlocking
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.addJsonObject
import kotlinx.serialization.json.buildJsonArray
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.put
import java.io.File

/** Runs a bundle's self-test and prints its result as one JSON object. */
internal object SelfCheck {
    /** `SelfCheck BUNDLE [--threads N]` */
    @JvmStatic
    fun main(arguments: Array<String>) {
        val line = CommandLine(arguments, setOf("threads"))
        val output = standardOutput()
        val result = runBlocking {
            SatchelModel.selfTest(File(line.positional(0, "BUNDLE")), line.int("threads") ?: 1)
        }
        output.println(
            buildJsonObject {
                put("passed", result.passed)
                put("checks", toJson(result))
            },
        )
    }

    fun toJson(result: SelfTestResult): JsonArray = buildJsonArray {
        for (check in result.checks) {
            addJsonObject {
                put("name", check.name)
                put("passed", check.passed)
                put("detail", check.detail)
            }
        }
    }
}
