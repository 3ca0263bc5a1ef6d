package dev.satchel

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.double
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import java.io.File
import java.nio.ByteBuffer
import java.util.Base64
import kotlin.test.assertTrue

/** Reads the cases that every implementation of the SDK reproduces exactly (conformance/README.md). */
internal object ConformanceCases {
    /** The tokenizers that cases name. */
    val tokenizers: Map<String, Tokenizer> by lazy {
        file("tokenizers.json").getValue("tokenizers").jsonObject.mapValues { (_, content) ->
            Tokenizer(ByteBuffer.wrap(Base64.getDecoder().decode(content.jsonPrimitive.content)))
        }
    }

    fun file(name: String): JsonObject =
        Json.parseToJsonElement(File(System.getProperty("satchel.conformance.dir"), name).readText()).jsonObject

    fun forEach(name: String, list: String, body: (JsonObject) -> Unit) {
        val cases = file(name).getValue(list).jsonArray
        assertTrue(cases.isNotEmpty())
        cases.forEach { body(it.jsonObject) }
    }
}

internal val JsonObject.tokenizer get() = ConformanceCases.tokenizers.getValue(text("tokenizer"))

internal fun JsonObject.text(name: String) = getValue(name).jsonPrimitive.content

internal fun JsonObject.int(name: String) = getValue(name).jsonPrimitive.int

internal fun JsonObject.number(name: String) = getValue(name).jsonPrimitive.double

internal fun JsonObject.ints(name: String) = getValue(name).toInts()

internal fun JsonObject.objects(name: String) = getValue(name).jsonArray.map { it.jsonObject }

internal fun JsonElement.toInts() = jsonArray.map { it.jsonPrimitive.int }
