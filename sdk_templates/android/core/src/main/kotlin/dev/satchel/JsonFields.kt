package dev.satchel

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.booleanOrNull
import kotlinx.serialization.json.doubleOrNull
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.longOrNull

/** A JSON object of a bundle's file, whose fields are read with an error that names file and field. */
internal class JsonFields private constructor(
    private val file: String,
    private val path: String,
    private val fields: JsonObject,
) {
    fun string(name: String): String = read(name, "a string", ::toText)

    fun int(name: String): Int = read(name, "an integer") { number(it)?.intOrNull }

    fun long(name: String): Long = read(name, "an integer") { number(it)?.longOrNull }

    fun double(name: String): Double = read(name, "a number") { number(it)?.doubleOrNull }

    fun boolean(name: String): Boolean = read(name, "true or false") { number(it)?.booleanOrNull }

    /** True if the field is [second], false if it is [first]; it must be one of the two. */
    fun choice(name: String, first: String, second: String): Boolean = oneOf(name, first, second) == second

    /** The text of the field [name], which is one of [choices]. */
    fun oneOf(name: String, vararg choices: String): String =
        read(name, choices.joinToString(" or ") { "'$it'" }) { element -> toText(element)?.takeIf(choices::contains) }

    fun obj(name: String): JsonFields = JsonFields(file, "$path$name.", read(name, "an object") { it as? JsonObject })

    fun optionalLong(name: String): Long? = if (has(name)) long(name) else null

    fun optionalObj(name: String): JsonFields? = if (has(name)) obj(name) else null

    fun ints(name: String): List<Int> = list(name, "integers") { number(it)?.intOrNull }

    fun doubles(name: String): List<Double> = list(name, "numbers") { number(it)?.doubleOrNull }

    fun objects(name: String): List<JsonFields> = list(name, "objects") { element ->
        (element as? JsonObject)?.let { JsonFields(file, "$path$name.", it) }
    }

    fun <T : Any> list(name: String, expected: String, convert: (JsonElement) -> T?): List<T> =
        read(name, "a list") { it as? JsonArray }.map { convert(it) ?: throw wrong(name, expected, it) }

    /** All fields, which are strings. */
    fun strings(): Map<String, String> = fields.keys.associateWith(::string)

    /** All fields, which are lists of strings. */
    fun stringLists(): Map<String, List<String>> = fields.keys.associateWith { list(it, "strings", ::toText) }

    fun has(name: String): Boolean = fields[name].let { it != null && it !is JsonNull }

    private fun <T : Any> read(name: String, expected: String, convert: (JsonElement) -> T?): T {
        val element = fields[name] ?: throw wrong(name, expected, null)
        return convert(element) ?: throw wrong(name, expected, element)
    }

    private fun toText(element: JsonElement): String? = (element as? JsonPrimitive)?.takeIf { it.isString }?.content

    private fun number(element: JsonElement): JsonPrimitive? = (element as? JsonPrimitive)?.takeUnless { it.isString }

    private fun wrong(name: String, expected: String, actual: JsonElement?) = SatchelException.BundleCorrupt(
        file,
        "$path$name to be $expected",
        actual?.toString()?.take(SHOWN) ?: "nothing",
    )

    companion object {
        private const val SHOWN = 80

        /** @throws SatchelException.BundleCorrupt if [text] is no JSON object */
        fun parse(file: String, text: String): JsonFields {
            val root = try {
                Json.parseToJsonElement(text)
            } catch (e: IllegalArgumentException) {
                // What kotlinx.serialization throws for text that is no JSON.
                throw SatchelException.BundleCorrupt(file, "JSON", "something else", e)
            }
            val fields = root as? JsonObject ?: throw SatchelException.BundleCorrupt(file, "a JSON object", "a value")
            return JsonFields(file, "", fields)
        }
    }
}
