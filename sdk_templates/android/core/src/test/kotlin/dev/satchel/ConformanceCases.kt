package dev.satchel

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.double
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import java.io.File
import java.nio.ByteBuffer
import java.util.Base64
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.seconds

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

    /** Runs [body] on every case of a list, writes down how many passed, and fails if not all did. */
    fun forEach(name: String, list: String, body: (JsonObject) -> Unit) = forEachElement(name, list) { element ->
        body(element.jsonObject)
    }

    fun forEachElement(name: String, list: String, body: (JsonElement) -> Unit) {
        val cases = file(name).getValue(list).jsonArray
        assertTrue(cases.isNotEmpty())
        val failures = cases.mapNotNull { case ->
            runCatching { body(case) }.exceptionOrNull()?.let { AssertionError("$name, $list: $case", it) }
        }
        val folder = File(System.getProperty("satchel.conformance.results")).apply { mkdirs() }
        File(folder, "${name.removeSuffix(".json")}-$list.json").writeText(
            """{"file": "$name", "passed": ${cases.size - failures.size}, "failed": ${failures.size}}""",
        )
        failures.firstOrNull()?.let { throw it }
    }
}

internal val JsonObject.tokenizer get() = ConformanceCases.tokenizers.getValue(text("tokenizer"))

internal fun JsonObject.text(name: String) = getValue(name).jsonPrimitive.content

internal fun JsonObject.int(name: String) = getValue(name).jsonPrimitive.int

internal fun JsonObject.number(name: String) = getValue(name).jsonPrimitive.double

internal fun JsonObject.ints(name: String) = getValue(name).toInts()

internal fun JsonObject.objects(name: String) = getValue(name).jsonArray.map { it.jsonObject }

/** A number, of which JSON holds some as text: NaN and the infinities. */
internal fun JsonElement.toNumber() = jsonPrimitive.content.toDouble()

/** Logits as a case holds them. */
internal fun JsonObject.logits() =
    getValue("logits").jsonArray.let { row -> FloatArray(row.size) { row[it].toNumber().toFloat() } }

/** A case's options, by the names that the Python reference gives them. */
internal fun JsonObject.options(name: String = "options"): GenerateOptions {
    val options = this[name]?.jsonObject ?: JsonObject(emptyMap())

    fun double(name: String) = options[name]?.toNumber()
    return GenerateOptions(
        maxNewTokens = options["max_new_tokens"]?.jsonPrimitive?.int,
        temperature = double("temperature"),
        topK = options["top_k"]?.jsonPrimitive?.int,
        topP = double("top_p"),
        minP = double("min_p"),
        repetitionPenalty = double("repetition_penalty") ?: 1.0,
        presencePenalty = double("presence_penalty") ?: 0.0,
        frequencyPenalty = double("frequency_penalty") ?: 0.0,
        logitBias = options["logit_bias"]?.jsonObject.orEmpty().map { (id, bias) -> id.toInt() to bias.toNumber() }
            .toMap(),
        seed = options["seed"]?.jsonPrimitive?.long,
        stopStrings = options["stop_strings"]?.jsonArray.orEmpty().map { it.jsonPrimitive.content },
        timeout = double("timeout")?.seconds,
        contextPolicy = options["context_policy"]?.let { ContextPolicy.valueOf(it.jsonPrimitive.content.uppercase()) }
            ?: ContextPolicy.ERROR,
    )
}

internal fun JsonElement.toInts() = jsonArray.map { it.jsonPrimitive.int }
