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
    private val end: List<Segment>,
    private val system: String,
    private val trimsAllFolded: Boolean,
    private val alternating: Boolean,
    private val endsWithUser: Boolean,
    private val specialTokens: Map<Int, String>,
) {
    private val isFolded = system == FOLDED || system == FOLDED_LAST

    private class RoleForm(
        val before: List<Segment>,
        val after: List<Segment>,
        val trim: Boolean,
        val keptAfter: KeptAfter?,
        val omitEmpty: Boolean,
        val refused: List<Refused>,
    ) {
        /** The content without what the template drops of it, blanks aside. */
        fun cut(content: String): String {
            val place = if (keptAfter == null) -1 else content.lastIndexOf(keptAfter.text)
            if (keptAfter == null || place < 0) return content
            return content.substring(place + keptAfter.text.length).trimStart { it in keptAfter.trim }
        }
    }

    /** Of a content that holds [text] only what follows its last occurrence counts, [trim] taken off its start. */
    private class KeptAfter(
        val text: String,
        val trim: String,
    )

    /** Contents that the template takes for something else. */
    private class Refused(
        val start: String,
        val end: String,
    )

    /** The ids of the conversation [turns]. @throws IllegalArgumentException for turns that the template can't take */
    fun encode(tokenizer: Tokenizer, turns: List<Turn>, answer: Boolean): IntArray {
        val ids = IntList()
        val segments = render(turns, answer)
        for ((index, segment) in segments.withIndex()) {
            when (segment) {
                is Segment.Token -> ids.add(segment.id)
                is Segment.Text -> {
                    val before = segments.getOrNull(index - 1) as Segment.Token?
                    val after = segments.getOrNull(index + 1) as Segment.Token?
                    val text = tokenizer.withoutTakenBlanks(segment.text, before?.id, after?.id)
                    ids.addAll(tokenizer.encode(text, special = false, atStart = index == 0))
                }
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
        val spoken = turns.filter { it.content.isNotEmpty() || !roles.getValue(it.role).omitEmpty }
        val segments = ArrayList(prefix)
        if (spoken.firstOrNull()?.role != Turn.SYSTEM) segments += defaultSystem
        val folded = ArrayList<Segment>() // a system turn that is written inside a user turn
        for ((index, turn) in spoken.withIndex()) {
            val form = roles.getValue(turn.role)
            val content = form.cut(turn.content)
            val trimmed = Segment.Text(if (form.trim) content.trim(::isTrimmed) else content)
            if (isFolded && turn.role == Turn.SYSTEM) {
                folded += form.before + trimmed + form.after
                continue
            }
            segments += form.before
            if (folded.isEmpty() || (system == FOLDED_LAST && index != spoken.lastIndex)) {
                segments += trimmed
            } else {
                val trimsAll = trimsAllFolded && form.trim
                segments += if (trimsAll) trimmed(folded + Segment.Text(content)) else folded + trimmed
                folded.clear()
            }
            segments += form.after
        }
        segments += if (answer) generationPrompt else end
        return joined(segments)
    }

    /** Why these turns can't be rendered, or null if they can. */
    private fun objection(turns: List<Turn>, answer: Boolean): String? {
        if (!isChat) return "This model has no chat template: it takes raw prompts only"
        if (turns.isEmpty()) return "A conversation needs at least one turn"
        turns.find { it.role !in roles }?.let {
            return "This model's chat template has no '${it.role}' turns; it has ${roles.keys.joinToString()}"
        }
        for (turn in turns) {
            roles.getValue(turn.role).refused.find { isRefused(turn.content, it) }?.let {
                return "This model's chat template takes no ${turn.role} turn from '${it.start}' to '${it.end}': " +
                    "put something before it"
            }
        }
        if (system != ANY && turns.drop(1).any { it.role == Turn.SYSTEM }) {
            return "This model's chat template takes a system turn only as the first one"
        }
        if (isFolded && turns[0].role == Turn.SYSTEM && turns.getOrNull(1)?.role != Turn.USER) {
            return "This model's chat template takes a system turn only with a user turn behind it"
        }
        if (alternating) {
            val spoken = turns.map { it.role }.filter { it != Turn.SYSTEM }
            val expected = spoken.indices.map { if (it % 2 == 0) Turn.USER else Turn.ASSISTANT }
            if (spoken.isEmpty() || spoken != expected || (answer && spoken.last() != Turn.USER)) {
                return "This model's chat template needs user and assistant turns to alternate, not $spoken"
            }
        }
        if (endsWithUser && turns.last().role != Turn.USER) {
            return "This model's chat template is taken only for conversations that end with a user turn"
        }
        return null
    }

    private fun isRefused(content: String, refused: Refused): Boolean =
        content.startsWith(refused.start) && content.endsWith(refused.end)

    /** Blanks taken off both ends of what stands inside a turn. */
    private fun trimmed(inside: List<Segment>): List<Segment> {
        val result = joined(inside).toMutableList()
        (result.firstOrNull() as? Segment.Text)?.let { result[0] = Segment.Text(it.text.trimStart(::isTrimmed)) }
        (result.lastOrNull() as? Segment.Text)?.let {
            result[result.lastIndex] = Segment.Text(it.text.trimEnd(::isTrimmed))
        }
        return result
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
            if (!isChat) {
                return PromptProgram(false, emptyMap(), NONE, NONE, NONE, NONE, ANY, false, false, false, emptyMap())
            }
            val roles = root.obj("roles")
            return PromptProgram(
                isChat = true,
                roles = ROLES.filter(roles::has).associateWith { role ->
                    roleForm(roles.obj(role))
                },
                prefix = root.segments("prefix"),
                defaultSystem = root.segments("default_system"),
                generationPrompt = root.segments("generation_prompt"),
                end = if (root.has("end")) root.segments("end") else NONE,
                system = root.oneOf("system", ANY, "first", FOLDED, FOLDED_LAST),
                trimsAllFolded = root.has("folded_trim") && root.choice("folded_trim", "content", "all"),
                alternating = root.choice("order", ANY, "alternating"),
                endsWithUser = root.has("last") && root.choice("last", ANY, Turn.USER),
                specialTokens = root.obj("special_tokens").strings().mapKeys { (id, _) ->
                    id.toIntOrNull() ?: throw SatchelException.BundleCorrupt(FILE, "special_tokens by id", id)
                },
            )
        }

        private fun roleForm(form: JsonFields) = RoleForm(
            before = form.segments("before"),
            after = form.segments("after"),
            trim = form.boolean("trim"),
            keptAfter = form.optionalObj("kept_after")?.let { KeptAfter(it.string("text"), it.string("trim")) },
            omitEmpty = form.has("omit_empty") && form.boolean("omit_empty"),
            refused = if (form.has("refused")) {
                form.objects("refused").map { Refused(it.string("start"), it.string("end")) }
            } else {
                emptyList()
            },
        )

        private const val ANY = "any"
        private const val FOLDED = "folded"
        private const val FOLDED_LAST = "folded_last"
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
