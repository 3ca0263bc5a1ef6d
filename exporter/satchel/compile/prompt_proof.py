"""Holds a prompt program against the chat template it was compiled from, on many conversations, as text and as ids."""

from collections.abc import Iterator
from itertools import cycle, islice, permutations, product
from os.path import commonprefix

from jinja2.exceptions import TemplateError

from satchel.compile.chat_template import NOTHING_SOUGHT, ChatTemplate, Sought
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer

_CONTENTS = (
    "What is the capital of France?",
    "",
    " ",
    "  two blanks before, one blank and a line after \n",
    "\n\nlines\r\n\tand tabs\n\n",
    "\u00a0no-break\u3000wide\u2028",
    "\x1cseparators\x1f",
    "{{ messages }} {% if true %}x{% endif %} {# note #} {{ '<' }}",
    "system\nuser\nassistant",
    "it's 42 \u00e9\u0301 \u4f60\u597d \U0001f468\u200d\U0001f469\u200d\U0001f467 \x00",
    "<b>&amp; \\n \"quoted\" 'single'</b>",
    "<think>no</think> [INST] text [/INST]",
)

# u, a, s: turns of user, assistant, system. A chat session makes those of the first line; anybody can make the others.
_SHAPES = ("u", "su", "ua", "sua", "uau", "suau", "uauau", "suauau")
_ODD_SHAPES = ("s", "a", "uu", "suu", "au", "uaa", "us", "uas", "uasu", "ssu", "sa")

_ROLE_OF_LETTER = {"s": "system", "u": "user", "a": "assistant"}


def probe_conversations(sought: Sought = NOTHING_SOUGHT) -> Iterator[list[Turn]]:
    """Every shape of conversation with every content, alone and next to others.

    sought: what a template looks for in contents. Contents with one of these texts stand in every place, those with two
    in every place of a long conversation; an answer with any two of them stands before whatever a user turn can be
    taken for.
    """
    for shape, start in product(_SHAPES + _ODD_SHAPES, range(len(_CONTENTS))):
        contents = islice(cycle(_CONTENTS), start, None)
        yield [Turn(_ROLE_OF_LETTER[letter], content) for letter, content in zip(shape, contents, strict=False)]
        yield [Turn(_ROLE_OF_LETTER[letter], _CONTENTS[start]) for letter in shape]
    with_one = [*sought.all, *(f"before{text}\n\n after{text} \n end" for text in sought.all)]
    with_two = [f"{one}\nbetween\n{other}\n\nend" for one, other in permutations(sought.all, 2)]
    framed = [f"{start} between {end}" for start, end in product(("", *sought.start), ("", *sought.end))][1:]
    for shape, content in (*product(_SHAPES[:6], with_one), *product(("sua", "suau"), (*with_two, *framed))):
        for place in range(len(shape)):
            yield [
                Turn(_ROLE_OF_LETTER[letter], content if index == place else "Hi") for index, letter in enumerate(shape)
            ]
    for answer, content in product((*with_one, *with_two), framed):
        yield [Turn("user", "Hi"), Turn("assistant", answer), Turn("user", content)]


def difference(program: PromptProgram, template: ChatTemplate, tokenizer: Tokenizer) -> str | None:
    """The first conversation which the program takes and writes unlike the template, as a sentence; None if equal."""
    sought = template.sought()
    for turns, generation_prompt in product(probe_conversations(sought), (False, True)):
        if program.objection(turns, generation_prompt):
            continue
        shown = f"for {[(turn.role, turn.content) for turn in turns]}"
        looked_for = [text for text in sought.all if any(text in turn.content for turn in turns)]
        if looked_for:
            shown += f" (the template looks for {' and '.join(map(repr, looked_for))} in what is said)"
        try:
            expected = template.render(turns, generation_prompt)
        except TemplateError as error:
            return f"the template raises {str(error)!r} {shown}"
        text = program.text(turns, generation_prompt)
        if text != expected:
            return f"it gives {_where_they_part(text, expected)} {shown}"
        if any(_names_special_tokens(turn.content, tokenizer) for turn in turns):
            continue  # the rendered text has them as tokens; what is said stays text, which nothing rendered can show
        if program.encode(tokenizer, turns, generation_prompt) != tokenizer.encode(expected, special=True):
            return f"its ids differ from those of the rendered text {shown}"
    return None


def _names_special_tokens(text: str, tokenizer: Tokenizer) -> bool:
    return any(not isinstance(part, str) for part in tokenizer.cut_special(text))


def _where_they_part(text: str, expected: str) -> str:
    """Both texts around the first character that differs: a prompt can be pages long."""
    common = len(commonprefix([text, expected]))  # noqa: RUF071 (characters are what is meant)
    start, end = max(0, common - 30), common + 60
    shown = [
        repr(("…" if start else "") + whole[start:end] + ("…" if len(whole) > end else ""))
        for whole in (text, expected)
    ]
    return " instead of ".join(shown)
