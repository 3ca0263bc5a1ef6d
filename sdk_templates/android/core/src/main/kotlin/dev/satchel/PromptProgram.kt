package dev.satchel

import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.intOrNull

/** One message of a conversation. */
internal class Turn(
    val role: String,
    val content: String,
) {
    companion object {
        const val SYSTEM = "system"
        const val USER = "user"
        const val ASSISTANT = "assistant"
    }
}

/** A part of a rendered prompt: a special token, or a text in which nothing is a special token. */
internal sealed interface Segment {
    class Token(
        val id: Int,
    ) : Segment

    class Text(
        val text: String,
    ) : Segment
}

/** The model's chat template compiled to data (docs/prompt-format.md). */
internal class PromptProgram private constructor(
    /** False if the model has no template and takes raw prompts only. */
    val isChat: Boolean,
    private val roles: Map<String, RoleForm>,
    private val prefix: List<Segment>,
    private val defaultSystem: List<Segment>,
    private val generationPrompt: List<Segment>,
    private val systemFirst: Boolean,
    private val systemFolded: Boolean,
    private val alternating: Boolean,
    private val specialTokens: Map<Int, String>,
) {
    private class RoleForm(
        val before: List<Segment>,
        val after: List<Segment>,
        val trim: Boolean,
    )

    /** The ids of the conversation [turns]. @throws IllegalArgumentException for turns that the template can't take */
    fun encode(tokenizer: Tokenizer, turns: List<Turn>, answer: Boolean): IntArray {
        val ids = IntList()
        for ((index, segment) in render(turns, answer).withIndex()) {
            when (segment) {
                is Segment.Token -> ids.add(segment.id)
                is Segment.Text -> ids.addAll(tokenizer.encode(segment.text, special = false, atStart = index == 0))
            }
        }
        return ids.toArray()
    }

    /** The prompt as a person reads it. */
    fun text(turns: List<Turn>, answer: Boolean): String = render(turns, answer).joinToString("") { segment ->
        when (segment) {
            is Segment.Token -> specialTokens.getValue(segment.id)
            is Segment.Text -> segment.text
        }
    }

    /** The prompt's segments, neighbouring texts joined. With [answer], the model is to speak next. */
    fun render(turns: List<Turn>, answer: Boolean): List<Segment> {
        objection(turns, answer)?.let { throw IllegalArgumentException(it) }
        val segments = ArrayList(prefix)
        if (turns[0].role != Turn.SYSTEM) segments += defaultSystem
        val folded = ArrayList<Segment>() // a system turn that is written inside the user turn behind it
        for (turn in turns) {
            val form = roles.getValue(turn.role)
            val content = Segment.Text(if (form.trim) turn.content.trim(::isTrimmed) else turn.content)
            if (systemFolded && turn.role == Turn.SYSTEM) {
                folded += form.before + content + form.after
            } else {
                segments += form.before + folded + content + form.after
                folded.clear()
            }
        }
        if (answer) segments += generationPrompt
        return joined(segments)
    }

    /** Why these turns can't be rendered, or null if they can. */
    private fun objection(turns: List<Turn>, answer: Boolean): String? {
        if (!isChat) return "This model has no chat template: it takes raw prompts only"
        if (turns.isEmpty()) return "A conversation needs at least one turn"
        turns.find { it.role !in roles }?.let {
            return "This model's chat template has no '${it.role}' turns; it has ${roles.keys.joinToString()}"
        }
        if (systemFirst && turns.drop(1).any { it.role == Turn.SYSTEM }) {
            return "This model's chat template takes a system turn only as the first one"
        }
        if (systemFolded && turns[0].role == Turn.SYSTEM && turns.getOrNull(1)?.role != Turn.USER) {
            return "This model's chat template takes a system turn only with a user turn behind it"
        }
        if (alternating) {
            val spoken = turns.map { it.role }.filter { it != Turn.SYSTEM }
            val expected = spoken.indices.map { if (it % 2 == 0) Turn.USER else Turn.ASSISTANT }
            if (spoken.isEmpty() || spoken != expected || (answer && spoken.last() != Turn.USER)) {
                return "This model's chat template needs user and assistant turns to alternate, not $spoken"
            }
        }
        return null
    }

    private fun joined(segments: List<Segment>): List<Segment> {
        val result = ArrayList<Segment>()
        val text = StringBuilder()
        for (segment in segments) {
            when (segment) {
                is Segment.Text -> text.append(segment.text)
                is Segment.Token -> {
                    if (text.isNotEmpty()) result += Segment.Text(text.toString())
                    text.clear()
                    result += segment
                }
            }
        }
        if (text.isNotEmpty()) result += Segment.Text(text.toString())
        return result
    }

    companion object {
        private const val FILE = "prompt.json"
        private const val SCHEMA_VERSION = 1
        private val ROLES = listOf(Turn.SYSTEM, Turn.USER, Turn.ASSISTANT)

        /** Reads the text of a `prompt.json`. @throws SatchelException.BundleCorrupt if it is none of this schema */
        fun parse(text: String): PromptProgram {
            val root = JsonFields.parse(FILE, text)
            val version = root.int("schema_version")
            if (version != SCHEMA_VERSION) {
                throw SatchelException.BundleCorrupt(FILE, "schema version $SCHEMA_VERSION", "$version")
            }
            val isChat = root.choice("kind", "raw", "chat")
            if (!isChat) return PromptProgram(false, emptyMap(), NONE, NONE, NONE, false, false, false, emptyMap())
            val roles = root.obj("roles")
            val system = root.oneOf("system", "any", "first", "folded")
            return PromptProgram(
                isChat = true,
                roles = ROLES.filter(roles::has).associateWith { role ->
                    val form = roles.obj(role)
                    RoleForm(form.segments("before"), form.segments("after"), form.boolean("trim"))
                },
                prefix = root.segments("prefix"),
                defaultSystem = root.segments("default_system"),
                generationPrompt = root.segments("generation_prompt"),
                systemFirst = system != "any",
                systemFolded = system == "folded",
                alternating = root.choice("order", "any", "alternating"),
                specialTokens = root.obj("special_tokens").strings().mapKeys { (id, _) ->
                    id.toIntOrNull() ?: throw SatchelException.BundleCorrupt(FILE, "special_tokens by id", id)
                },
            )
        }

        private val NONE = emptyList<Segment>()

        private fun JsonFields.segments(name: String): List<Segment> = list(name, "segments") { element ->
            toSegment(element)
        }

        private fun toSegment(element: JsonElement): Segment? {
            val value = element as? JsonPrimitive ?: return null
            return if (value.isString) Segment.Text(value.content) else value.intOrNull?.let(Segment::Token)
        }

        /** What trimming takes: the characters of Python's `str.strip()`, not those of the platform's own trim. */
        private fun isTrimmed(character: Char): Boolean = when (character.code) {
            in 0x09..0x0D, in 0x1C..0x20, 0x85, 0xA0, 0x1680, in 0x2000..0x200A, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
            -> true
            else -> false
        }
    }
}
