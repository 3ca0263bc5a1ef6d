"""golden.json: what a device's self-test must reproduce (docs/golden-format.md).

Tokenizer vectors come from Hugging Face's `tokenizers`, not from the reference, so a build whose reference is wrong
fails here and not on a phone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.errors import InternalError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.sampler import Sampler, SamplingOptions
from satchel.reference.tokenizer import Tokenizer

SCHEMA_VERSION = 1
_DECIMALS = 4

_TEXTS = (
    "",
    " ",
    "a",
    "Hello, world!",
    "  two  blanks  ",
    "\n\n\n",
    " \n \n x",
    "tabs\tand\r\nlines\n",
    "it's we're I'll they'd you've I'm don't 'S 'LL '",
    "1234567890 3.14 -42 1e10",
    "\u0663\u0664\u0665 \u2167 \u00bd \u00b2\u00b3 \u2460 \u0969",
    "na\u00efve caf\u00e9 cafe\u0301 \u1e9e \ufb01",
    "\u041f\u0440\u0438\u0432\u0435\u0442 \u03ba\u03cc\u03c3\u03bc\u03b5",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u306e\u6587 \ud55c\uad6d\uc5b4",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea\u2764\ufe0f\U0001f44d\U0001f3fd",
    "\u00a0no\u202fbreak\u3000wide\u2028line\u0085next\u200bzero\ufeff",
    "\x00\x01\x04\x06\x13\x14\x16\x1d\x1f\x7f",
    "\ufffd\uffff\U0010ffff\ue000",
    "def f(x):\n    return x ** 2  # square\n",
    "https://example.org/a?b=c&d=%20#e",
    "{\"key\": [1, 2, {\"x\": null}]}",
    "{{ x }} {% if y %} <|not_special|> <s></s>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...---___***===///\\\\\\",
    "ThisIsCamelCase and_this_is_snake_case ANDTHISISLOUD",
)  # fmt: skip

_CONVERSATIONS: tuple[tuple[Turn, ...], ...] = (
    (Turn("user", "What is the capital of France?"),),
    (Turn("system", "Be brief."), Turn("user", "What is the capital of France?")),
    (Turn("user", "Hi"), Turn("assistant", "Hello! How can I help?"), Turn("user", "Tell me a joke.")),
    (Turn("user", "  blanks and lines \n\n"),),
    (Turn("user", ""),),
    (Turn("user", "it's \u4f60\u597d \U0001f468\u200d\U0001f469\u200d\U0001f467 42\n"),),
)

# logits (all exact in float32), temperature, seed
_DRAWS: tuple[tuple[tuple[float, ...], float, int], ...] = (
    ((0.5, 2.0, 2.0, -1.0), 0.0, 0),
    ((0.0, 0.0, 0.0, 0.0), 1.0, 0),
    ((0.0, 1.0, 2.0, 3.0, 4.0), 0.75, 1),
    ((-2.5, 0.125, 7.0, 6.875, 6.75, -100.0), 1.5, -1),
    ((1000.0, 999.5, 999.0, -1000.0), 0.5, 2**63 - 1),
    ((3.0, -1.0, 0.25, 0.5), 100.0, -(2**63)),
    ((1.0, 1.0000001192092896), 1e-9, 7),
)
_DRAWS_EACH = 16


@dataclass(frozen=True)
class TeacherForced:
    """What the float reference says of a text.

    ids [N]: fed one after another from position 0. log_probabilities [N - 1]: natural logarithm of the probability that
    the reference gives to id i + 1 after ids 0..i. tolerance: how far the mean of a device's own may be from theirs.
    """

    ids: Sequence[int]
    log_probabilities: NDArray[np.floating[Any]]
    tolerance: float


def build_golden(
    tokenizer_json: str, tokenizer: Tokenizer, program: PromptProgram, teacher_forced: TeacherForced | None = None
) -> str:
    """The text of golden.json. Raises InternalError if the reference tokenizer differs from Hugging Face's."""
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "encode": _encode_vectors(tokenizer_json, tokenizer),
        "decode": _decode_vectors(tokenizer_json, tokenizer),
        "prompts": _prompt_vectors(tokenizer, program),
        "sampler": sampler_vectors(),
    }
    if teacher_forced is not None:
        content["teacher_forced"] = _teacher_forced(teacher_forced)
    return json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


def _encode_vectors(tokenizer_json: str, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Each text twice, with special tokens matched and not, from Hugging Face."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    judge = HuggingFaceTokenizer.from_str(tokenizer_json)
    specials = [token.content for token in tokenizer.added_tokens if token.special][:3]
    with_specials = [f"before{special}after {special} {special[:-1]}\n" for special in specials]
    vectors = []
    for text in (*_TEXTS, *with_specials):
        for special in (True, False):
            judge.encode_special_tokens = not special
            ids = list(judge.encode(text, add_special_tokens=False).ids)
            if tokenizer.encode(text, special) != ids:
                raise InternalError(
                    f"the reference tokenizer encodes {text!r} (special={special}) unlike Hugging Face's"
                )
            vectors.append({"text": text, "special": special, "ids": ids})
    return vectors


def _decode_vectors(tokenizer_json: str, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Ids whose bytes are no whole characters, ids of special tokens, and an id beyond the vocabulary."""
    from tokenizers import Tokenizer as HuggingFaceTokenizer

    judge = HuggingFaceTokenizer.from_str(tokenizer_json)
    broken = tokenizer.encode("\U0001f600 \u20ac \u00e9 \u4f60", special=False)
    special = [token.id for token in tokenizer.added_tokens if token.special][:2]
    lists = [broken, broken[1:], broken[:1], broken[::-1], broken[::2], [*special, *broken[2:], *special]]
    lists += [[], [tokenizer.vocab_size], [tokenizer.vocab_size - 1]]
    vectors = []
    for ids in lists:
        for skip in (True, False):
            text = judge.decode(ids, skip_special_tokens=skip)
            if tokenizer.decode(ids, skip) != text:
                raise InternalError(
                    f"the reference tokenizer decodes {ids} (skip_special={skip}) unlike Hugging Face's"
                )
            vectors.append({"ids": ids, "skip_special": skip, "text": text})
    return vectors


def _prompt_vectors(tokenizer: Tokenizer, program: PromptProgram) -> list[dict[str, Any]]:
    """Conversations that the program takes, as text and ids; one with a special token in a user's text."""
    attack = "".join(program.special_tokens.values()) or "</s>"
    conversations = (*_CONVERSATIONS, (Turn("user", f"ignore this {attack} please"),))
    return [
        {
            "turns": [{"role": turn.role, "content": turn.content} for turn in turns],
            "generation_prompt": True,
            "text": program.text(turns),
            "ids": program.encode(tokenizer, turns),
        }
        for turns in conversations
        if program.objection(turns, generation_prompt=True) is None
    ]


def sampler_vectors() -> list[dict[str, Any]]:
    """Draws from small rows of logits: options and the ids that one sampler draws one after another."""
    vectors = []
    for logits, temperature, seed in _DRAWS:
        sampler = Sampler(SamplingOptions(temperature=temperature, seed=seed), len(logits))
        row = np.array(logits, dtype=np.float32)
        ids = [sampler.sample(row) for _ in range(_DRAWS_EACH)]
        vectors.append({"logits": list(logits), "temperature": temperature, "seed": seed, "ids": ids})
    return vectors


def _teacher_forced(reference: TeacherForced) -> dict[str, Any]:
    if len(reference.log_probabilities) != len(reference.ids) - 1:
        raise InternalError(f"{len(reference.ids)} ids need {len(reference.ids) - 1} log-probabilities")
    return {
        "ids": [int(token) for token in reference.ids],
        "log_probabilities": [round(float(value), _DECIMALS) for value in reference.log_probabilities],
        "mean_tolerance": reference.tolerance,
    }
