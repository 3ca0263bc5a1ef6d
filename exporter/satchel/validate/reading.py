"""Our reading of a source held against transformers' own: logits, prompt ids, stop ids.

Program and float reference are both made from our reading of config, names and weights, and would share its mistakes:
a wrong permutation, rotary base or pre-tokenizer breaks both alike. Here somebody else reads the same files.

Of a GGUF file transformers knows less than of a folder, so it judges less; what it did not judge is said.
"""

import gc
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from satchel.compile.assets import TextAssets
from satchel.errors import ReadingError
from satchel.reference.prompt import PromptProgram, Turn
from satchel.report.reading import Reading, unchecked
from satchel.source.checkpoint import Checkpoint, stored_name
from satchel.source.gguf.header import GgufHeader, read_header
from satchel.source.gguf.parts import is_split
from satchel.validate.gguf_limits import config_limits, prompt_limits, text_limits

if TYPE_CHECKING:
    from satchel.validate.judge import OtherModel, OtherTokenizer

TOLERANCE = 1e-4  # of the largest logit; the same class with the same weights gives equal ones
_LONGEST = 64  # tokens of the prompt whose logits are compared
_PROMPTS = 3
_WORDS = 'Who wrote "Les Misérables"?\nDON\'T say it twice, it\'s "ONE" line;\tthanks.'
_SIGNS = "def f(x):\n    return [x, *x]  # 你好, привет 👋🏽 <b>&amp;</b>\n\n\nfoo_bar() != fooBar"
_NUMBERS = "In 1969: 3.14159 x 20 = 62.8318, ½ + ² and a cafe\u0301 at 10.0.0.255"
# The last text has what transformers' conversion of a GGUF file does not do with some pre-tokenizers.
TEXTS = (_WORDS, _SIGNS, _NUMBERS)
_WHAT_TO_DO = (
    "One of the two is wrong, so nothing was built. If the model's files contradict one another, save it again with "
    "transformers' save_pretrained; if they don't, this is a defect of Satchel: report it with the model's name."
)


def compare(checkpoint: Checkpoint, place: Path, assets: TextAssets, stop_ids: Sequence[int]) -> Reading:
    """How the reading agrees with transformers'. place: the source's folder or GGUF file.

    Raises ReadingError that names what differs, with values, or if transformers can't load a folder at all.
    """
    from satchel.validate import judge

    is_gguf = not place.is_dir()
    if is_gguf and is_split(place):
        return unchecked("transformers does not read a GGUF model in several parts")
    try:
        tokenizer = judge.OtherTokenizer(place)
    except Exception as failure:
        return _not_loaded(failure, "tokenizer", is_gguf)
    header = read_header(place) if is_gguf else GgufHeader({}, {})
    of_text, of_config, of_prompts = text_limits(header), config_limits(header), prompt_limits(header)
    if of_prompts and assets.program.kind != "raw":
        of_text, compared = of_text + of_prompts, 0
        prompts = [assets.program.encode(assets.tokenizer, turns) for turns in conversations(assets.program, TEXTS)]
    else:
        prompts = _same_prompts(assets, tokenizer, TEXTS[:-1] if of_text else TEXTS)
        compared = len(prompts)
    ids = np.array(prompts[0][:_LONGEST], np.int64)
    ours = _our_logits(checkpoint, ids)
    try:
        # What it can't know of the config it is told; the weights and their names stay its own.
        model = judge.OtherModel(place, checkpoint.config if of_config else None)
    except Exception as failure:
        return _not_loaded(failure, "model", is_gguf)
    relative = _same_logits(checkpoint, ours, model, ids, tokenizer)
    of_stops = _same_stop_ids(stop_ids, model, tokenizer, assets.program, is_gguf)
    del model
    gc.collect()
    return Reading(judge.name(), relative, compared, True, (*of_text, *of_config, *of_stops))


def _not_loaded(failure: Exception, what: str, is_gguf: bool) -> Reading:
    """A package that is missing, or a GGUF file that transformers does not take, is no difference."""
    said = f"transformers can't load the {what} ({type(failure).__name__}: {failure})"
    if is_gguf or isinstance(failure, ImportError):
        return unchecked(said)
    raise ReadingError(f"{said}, and Satchel would. {_WHAT_TO_DO}") from failure


# --- prompts --------------------------------------------------------------------------------------------------------


def conversations(program: PromptProgram, texts: Sequence[str]) -> list[list[Turn]]:
    """One conversation per text, of the shapes that the template takes."""
    befores: Sequence[list[Turn]] = (
        [Turn("system", "Answer briefly.")],
        [Turn("user", "Hi"), Turn("assistant", "Hello! How can I help?")],
        [],
    )
    found: list[list[Turn]] = []
    for index, text in enumerate(texts):
        candidates = ([*befores[(index + turn) % len(befores)], Turn("user", text)] for turn in range(len(befores)))
        found += islice((turns for turns in candidates if program.objection(turns, True) is None), 1)
    return found


def _same_prompts(assets: TextAssets, tokenizer: "OtherTokenizer", texts: Sequence[str]) -> list[list[int]]:
    """Our ids of each prompt; raises ReadingError unless they are transformers' too."""
    if assets.program.kind == "raw" and tokenizer.has_template:
        raise ReadingError(f"transformers finds a chat template in this model, and Satchel finds none. {_WHAT_TO_DO}")
    if assets.program.kind == "raw":
        raw = [assets.tokenizer.encode_raw(text) for text in texts]
        for text, ours in zip(texts, raw, strict=True):
            _require_same(ours, tokenizer.text(text), f"the text {text!r}", tokenizer)
        return raw
    chats = conversations(assets.program, texts)
    prompts = [assets.program.encode(assets.tokenizer, turns) for turns in chats]
    for turns, ours in zip(chats, prompts, strict=True):
        shown = ", ".join(f"{turn.role}: {turn.content!r}" for turn in turns)
        try:
            theirs = tokenizer.chat(turns)
            if ours != theirs and tokenizer.writes_dates:
                theirs = tokenizer.chat(turns, clock=False)
        except Exception as failure:  # whatever a template raises
            raise ReadingError(
                f"transformers can't write the conversation ({shown}), and Satchel does: {type(failure).__name__}: "
                f"{failure}. {_WHAT_TO_DO}"
            ) from failure
        _require_same(ours, theirs, f"the conversation ({shown})", tokenizer)
    return prompts


def _require_same(ours: Sequence[int], theirs: Sequence[int], what: str, tokenizer: "OtherTokenizer") -> None:
    if list(ours) == list(theirs):
        return
    at = next((i for i, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other), None)
    at = min(len(ours), len(theirs)) if at is None else at
    here, there = (
        f"{tokenizer.piece(ids[at])!r} ({ids[at]})" if at < len(ids) else "its end" for ids in (ours, theirs)
    )
    raise ReadingError(
        f"Satchel tokenizes {what} unlike transformers' {tokenizer.kind}: token {at} is {here} here and {there} there. "
        f"{_WHAT_TO_DO}"
    )


# --- logits ---------------------------------------------------------------------------------------------------------


def _our_logits(checkpoint: Checkpoint, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    from satchel.validate.reference import Reference

    reference = Reference(checkpoint.config, lambda name: checkpoint.read(stored_name(checkpoint, name)))
    logits = reference.logits(ids)
    del reference
    gc.collect()  # a model's modules know one another
    return logits


def _same_logits(
    checkpoint: Checkpoint,
    ours: NDArray[np.float32],
    model: "OtherModel",
    ids: NDArray[np.int64],
    tokenizer: "OtherTokenizer",
) -> float:
    """The largest difference relative to the largest logit; raises ReadingError above the tolerance."""
    theirs = model.logits(ids)
    if ours.shape == theirs.shape:
        difference, scale = np.abs(ours - theirs), float(np.abs(theirs).max())
        relative = float(difference.max()) / scale if scale else float(difference.max())
        if relative <= TOLERANCE:  # False for NaN
            return relative
        position, token = np.unravel_index(int(np.argmax(difference)), difference.shape)
        how_far = (
            f"the logits of a prompt of {len(ids)} tokens differ by {relative:.2g} of the largest one, where "
            f"{TOLERANCE:g} is allowed (position {position}, token {tokenizer.piece(int(token))!r} ({token}): "
            f"{ours[position, token]:.6g} here, {theirs[position, token]:.6g} there)"
        )
    else:
        how_far = f"a position has {ours.shape[-1]} logits here and {theirs.shape[-1]} there"
    causes = "; ".join(_causes(checkpoint, model)) or "config and weights are the same"
    raise ReadingError(f"Satchel reads the model unlike transformers: {how_far}. In detail: {causes}. {_WHAT_TO_DO}")


def _causes(checkpoint: Checkpoint, model: "OtherModel") -> list[str]:
    """What is read differently, in words."""
    causes = []
    if model.missing:
        causes.append(f"transformers finds no weights of {_listed(model.missing)}")
    with suppress(KeyError, TypeError, ValueError):  # a config that transformers can't make is told by its tensors
        causes += [
            f"{name} is {here!r} here and {there!r} there"
            for name, (here, there) in model.settings_unlike(checkpoint.config).items()
        ]
    tensors = model.tensors_unlike(lambda name: checkpoint.read(stored_name(checkpoint, name)))
    if tensors:
        causes.append(f"other values in {_listed(tensors)}")
    return causes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


# --- stop ids -------------------------------------------------------------------------------------------------------


def _same_stop_ids(
    ours: Sequence[int], model: "OtherModel", tokenizer: "OtherTokenizer", program: PromptProgram, is_gguf: bool
) -> list[str]:
    """What of it was not judged. Raises ReadingError if transformers stops where we don't, or we where nothing ends."""
    theirs = model.stop_ids
    if missing := [token for token in theirs if token not in ours]:
        raise ReadingError(
            f"transformers ends an answer at {_named(missing, tokenizer)}, and Satchel does not: its stop ids are "
            f"{list(ours)}. {_WHAT_TO_DO}"
        )
    ends = {*theirs, tokenizer.eos_id}
    if program.kind == "chat" and "assistant" in program.roles:
        ends |= {segment for segment in program.roles["assistant"].after if isinstance(segment, int)}
    further = [token for token in ours if token not in ends]
    if further and is_gguf:  # transformers reads eos only, and not the ends of turn and of message
        return [f"whether {_named(further, tokenizer)} ends an answer too"]
    if further:
        raise ReadingError(
            f"Satchel would end an answer at {_named(further, tokenizer)}, which transformers would not, and which "
            f"ends no turn of the chat template. {_WHAT_TO_DO}"
        )
    return []


def _named(ids: Sequence[int], tokenizer: "OtherTokenizer") -> str:
    return ", ".join(f"{tokenizer.piece(token)!r} ({token})" for token in ids)
