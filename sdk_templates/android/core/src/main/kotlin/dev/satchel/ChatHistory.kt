package dev.satchel

import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.buildJsonArray
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.contentOrNull
import kotlinx.serialization.json.intOrNull
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put

/**
 * One message of a conversation.
 *
 * @property role who said it
 * @property text what was said
 */
public class ChatTurn(
    public val role: Role,
    public val text: String,
) {
    /** Who says something. */
    public enum class Role {
        /** The person. */
        USER,

        /** The model. */
        ASSISTANT,
    }

    /** Whether [other] says the same. */
    override fun equals(other: Any?): Boolean = other is ChatTurn && other.role == role && other.text == text

    /** Of what [equals] compares. */
    override fun hashCode(): Int = 31 * role.hashCode() + text.hashCode()

    /** For logs. */
    override fun toString(): String = "ChatTurn(role=$role, text=$text)"
}

/**
 * The completed turns of a conversation: what a [ChatSession] has, and what a new one can go on from.
 *
 * @property instructions what the model was told before the first turn; null for the model's own default
 * @property turns user and assistant in turn, the last one the assistant's
 * @throws IllegalArgumentException if the turns are in another order
 */
public class ChatHistory(
    public val instructions: String? = null,
    turns: List<ChatTurn> = emptyList(),
) {
    public val turns: List<ChatTurn> = turns.toList()

    init {
        for ((index, turn) in this.turns.withIndex()) {
            val expected = if (index % 2 == 0) ChatTurn.Role.USER else ChatTurn.Role.ASSISTANT
            require(turn.role == expected) { "turn $index is of the ${turn.role}; user and assistant must alternate" }
        }
        require(this.turns.size % 2 == 0) { "the last turn has no answer; user and assistant must alternate" }
    }

    /** This history as text, to be kept until [fromJson] reads it. */
    public fun toJson(): String = buildJsonObject {
        put("schema_version", SCHEMA_VERSION)
        put("instructions", instructions)
        put(
            "turns",
            buildJsonArray {
                for (turn in turns) {
                    add(
                        buildJsonObject {
                            put("role", turn.role.name.lowercase())
                            put("text", turn.text)
                        },
                    )
                }
            },
        )
    }.toString()

    /** Whether [other] says the same. */
    override fun equals(other: Any?): Boolean =
        other is ChatHistory && other.instructions == instructions && other.turns == turns

    /** Of what [equals] compares. */
    override fun hashCode(): Int = 31 * instructions.hashCode() + turns.hashCode()

    /** For logs. */
    override fun toString(): String = "ChatHistory(instructions=$instructions, turns=$turns)"

    /** Reads histories. */
    public companion object {
        private const val SCHEMA_VERSION = 1

        /**
         * Reads what [toJson] gave; fields of later versions are left alone.
         *
         * @throws IllegalArgumentException if [text] is anything else
         */
        @JvmStatic
        public fun fromJson(text: String): ChatHistory {
            // Every wrong type in here is an IllegalArgumentException or a missing key.
            val root = try {
                Json.parseToJsonElement(text).jsonObject
            } catch (e: IllegalArgumentException) {
                throw IllegalArgumentException("this is no history: it must be the JSON that toJson gives", e)
            }
            val version = root["schema_version"]?.jsonPrimitive?.takeUnless { it.isString }?.intOrNull
            require(version == SCHEMA_VERSION) {
                "the history has schema version $version; it must be $SCHEMA_VERSION"
            }
            val instructions = requireNotNull(root["instructions"]) { "this is no history: it has no instructions" }
            val turns = requireNotNull(root["turns"]) { "this is no history: it has no turns" }.jsonArray
            return ChatHistory(
                instructions = instructions.jsonPrimitive.let {
                    if (it.contentOrNull ==
                        null
                    ) {
                        null
                    } else {
                        it.requireText()
                    }
                },
                turns = turns.map { element ->
                    val turn = element.jsonObject
                    ChatTurn(toRole(turn.textOf("role")), turn.textOf("text"))
                },
            )
        }

        private fun toRole(name: String): ChatTurn.Role =
            requireNotNull(ChatTurn.Role.entries.find { it.name.lowercase() == name }) {
                "there are no turns of the $name; user and assistant must alternate"
            }

        private fun JsonObject.textOf(name: String): String =
            requireNotNull(this[name]) { "this is no history: a turn has no $name" }.jsonPrimitive.requireText()

        private fun JsonPrimitive.requireText(): String {
            require(isString) { "this is no history: role, text and instructions must be texts" }
            return content
        }
    }
}
