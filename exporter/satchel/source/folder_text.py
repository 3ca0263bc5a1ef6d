"""Tokenizer and chat template of a model folder, from every file in which they may lie.

Where two files say different things a reader would have to guess, and others guess otherwise: that is refused.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from satchel.errors import PromptTemplateError, TokenizerError
from satchel.source.checkpoint import TokenizerAssets
from satchel.source.json_files import optional_json, parse_json, read_text
from satchel.source.values import shown

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
TEMPLATE = "chat_template.jinja"
PROCESSOR_TEMPLATE = "chat_template.json"
FURTHER_TEMPLATES = "additional_chat_templates"
_FURTHER_DEFAULT = f"{FURTHER_TEMPLATES}/default.jinja"
TEXT_FILES = (TOKENIZER, SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS, TEMPLATE, PROCESSOR_TEMPLATE, _FURTHER_DEFAULT)


def tokenizer_of(folder: Path, config: Mapping[str, Any], generation: Mapping[str, Any]) -> TokenizerAssets:
    """The tokenizer of a folder. config, generation: config.json and generation_config.json as they are.

    Raises TokenizerError (none, or its files contradict one another), PromptTemplateError (several templates and none
    that is the usual one) or CorruptModelError.
    """
    path = folder / TOKENIZER
    if not path.is_file():
        raise TokenizerError(
            f"{folder.name} has no {TOKENIZER}. Save it with transformers: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)."
        )
    text = read_text(path)
    settings = optional_json(folder / SETTINGS)
    named = optional_json(folder / SPECIAL_TOKENS)
    ids = _added_ids(text)
    _check_added(folder, settings, ids)

    def token(name: str) -> tuple[str, int | None]:
        """Text and id of a special token: the tokenizer's settings know it, else the config knows its id."""
        content = _named_token(f"{name}_token", settings, named)
        if content is not None:
            return content, ids.get(content)
        configured = None if settings or named else next(iter(_ids(config, f"{name}_token_id")), None)
        return next((text for text, token_id in ids.items() if token_id == configured), ""), configured

    (bos_token, bos_id), (eos_token, eos_id), (_, pad_id) = token("bos"), token("eos"), token("pad")
    stops = _ids(generation if "eos_token_id" in generation else config, "eos_token_id")
    stops = [*stops, *([] if eos_id is None else [eos_id])]
    return TokenizerAssets(
        tokenizer_json=text,
        chat_template=_chat_template(folder, settings),
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        stop_ids=tuple(dict.fromkeys(stops)),
        bos_token=bos_token,
        eos_token=eos_token,
    )


def _named_token(name: str, settings: Mapping[str, Any], named: Mapping[str, Any]) -> str | None:
    """The text of a special token by its name, of whichever file has it."""
    found = [_content(name, table.get(name)) for table in (settings, named)]
    texts = [text for text in found if text is not None]
    if len(set(texts)) > 1:
        raise TokenizerError(
            f"{SETTINGS} gives {shown(texts[0])} as {name}, {SPECIAL_TOKENS} {shown(texts[1])}. Remove the wrong one, "
            "or save the tokenizer again."
        )
    return texts[0] if texts else None


def _content(name: str, value: Any) -> str | None:
    content = value.get("content") if isinstance(value, dict) else value
    if content is None or isinstance(content, str):
        return content
    raise TokenizerError(f"{name} is {shown(value)}; it must be a text. Get the model again.")


def _added_ids(tokenizer_json: str) -> dict[str, int]:
    """Text -> id of the tokens that are matched as a whole."""
    try:
        added = parse_json(tokenizer_json).get("added_tokens") or []
        return {token["content"]: int(token["id"]) for token in added}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as problem:
        raise TokenizerError(f"{TOKENIZER} can't be read ({problem}). Get the model again.") from problem


def _check_added(folder: Path, settings: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    """Raise TokenizerError if another file adds a token that tokenizer.json has not, or has under another id: whoever
    reads tokenizer.json alone would spell it letter by letter."""
    for file, text, token in _told_elsewhere(folder, settings):
        if str(ids.get(text)) != token:
            has = f"has it as {ids[text]}" if text in ids else "does not add it"
            raise TokenizerError(
                f"{file} adds the token {shown(text)} as {shown(token)}, and {TOKENIZER} {has}. Save the "
                "tokenizer again: AutoTokenizer.from_pretrained(...).save_pretrained(...)."
            )


def _told_elsewhere(folder: Path, settings: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(file, text, id) of the tokens that files beside tokenizer.json add."""
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise TokenizerError(f"added_tokens_decoder in {SETTINGS} is {shown(decoder)}, not a table.")
    for token, entry in decoder.items():
        yield SETTINGS, str(_content("added_tokens_decoder", entry)), str(token)
    for text, token in optional_json(folder / ADDED_TOKENS).items():
        yield ADDED_TOKENS, text, str(token)


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The template's own file wins; else tokenizer_config.json's, of several the one named "default"."""
    for own in (TEMPLATE, _FURTHER_DEFAULT):
        if (folder / own).is_file():
            return read_text(folder / own)
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {str(entry.get("name")): entry.get("template") for entry in template if isinstance(entry, dict)}
        if "default" not in named:
            raise _unchosen(named, SETTINGS)
        template = named["default"]
    if isinstance(template, str):
        return template
    if template is not None:
        raise PromptTemplateError(f"chat_template in {SETTINGS} is {shown(template)}, not a text. Get the model again.")
    further = folder / FURTHER_TEMPLATES
    if further.is_dir() and (names := {path.stem: path for path in further.glob("*.jinja")}):
        raise _unchosen(names, FURTHER_TEMPLATES)
    if (folder / PROCESSOR_TEMPLATE).is_file():
        raise PromptTemplateError(
            f"the only chat template is in {PROCESSOR_TEMPLATE}, which belongs to a processor and which tokenizers "
            f"don't read. Write its text as {TEMPLATE}."
        )
    return None


def _unchosen(named: Mapping[str, Any], where: str) -> PromptTemplateError:
    return PromptTemplateError(
        f"{where} has the chat templates {', '.join(sorted(named)) or 'none'}, and none is named default. Write the "
        f"one that counts as {TEMPLATE}."
    )


def _ids(table: Mapping[str, Any], key: str) -> list[int]:
    """A token id, or a list of them, or nothing."""
    value = table.get(key)
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if not all(type(one) is int and 0 <= one < 1 << 31 for one in ids):
        raise TokenizerError(f"{key} is {shown(value)}; it must be a token id or a list of them. Get the model again.")
    return ids
