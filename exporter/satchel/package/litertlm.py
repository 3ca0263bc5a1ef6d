"""The LiteRT-LM file (.litertlm): a program, its tokenizer, and what LiteRT-LM's engine must know of a chat.

Layout (version 1.7): magic, version, end of the header, a flatbuffer that lists the sections (LiteRTLMMetaData), then
the sections, each at a multiple of 16 KB: LlmMetadata as a protobuf, tokenizer.json in a zlib stream behind its size,
the .tflite. Written here because the library that writes such files stamps them with the time of day and a random id.
"""

import hashlib
import json
import shutil
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from flatbuffers import Builder

from satchel.bundle.manifest import SpecialIds
from satchel.hashing import file_sha256
from satchel.reference.prompt import PromptProgram, RoleForm, Segments

FILE = "model.litertlm"

_MAGIC = b"LITERTLM"
_VERSION = (1, 7, 0)
_HEADER_START = 32
_BLOCK = 16 * 1024
_CREATED = "1980-01-01T00:00:00+00:00"

# enum AnySectionDataType
_PROGRAM, _METADATA, _TOKENIZER = 3, 5, 6
_STRING_VALUE = 9  # position in union VData


def write(
    path: Path,
    program: Path,
    tokenizer_json: str,
    prompts: PromptProgram,
    context_length: int,
    tokens: SpecialIds,
) -> None:
    """Packs `program` and what belongs to it into `path`.

    The same inputs give the same bytes: the file's id is made from them, its date is fixed.
    """
    raw = tokenizer_json.encode()
    tokenizer = len(raw).to_bytes(8, "little") + zlib.compress(raw)
    described = _llm_metadata(prompts, context_length, tokens)
    digests = (described, tokenizer, file_sha256(program).encode())
    identity = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in digests)).digest()
    sections: list[tuple[int, bytes | Path, dict[str, str]]] = [
        (_METADATA, described, {}),
        (_TOKENIZER, tokenizer, {}),
        (_PROGRAM, program, {"model_type": "tf_lite_prefill_decode"}),
    ]
    sizes = [len(content) if isinstance(content, bytes) else content.stat().st_size for _, content, _ in sections]

    def header(begins: Sequence[int]) -> bytes:
        system = {"Authors": "satchel", "uuid": str(uuid.UUID(bytes=identity[:16], version=4))}
        places = [
            (kind, begin, begin + size, items)
            for (kind, _, items), begin, size in zip(sections, begins, sizes, strict=True)
        ]
        return _header({**system, "creation_timestamp": _CREATED}, places)

    length = len(header([_BLOCK] * len(sections)))  # the same whatever the positions are, but for 0
    begins, end = [], _HEADER_START + length
    for size in sizes:
        begins.append(-(-end // _BLOCK) * _BLOCK)
        end = begins[-1] + size
    with path.open("wb") as file:
        file.write(_MAGIC + b"".join(number.to_bytes(4, "little") for number in _VERSION) + bytes(4))
        file.write((_HEADER_START + length).to_bytes(8, "little"))
        file.write(header(begins))
        for (_, content, _), begin in zip(sections, begins, strict=True):
            file.write(bytes(begin - file.tell()))
            if isinstance(content, bytes):
                file.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file)


# --- header: a flatbuffer -------------------------------------------------------------------------------------------


def _header(system: dict[str, str], places: Sequence[tuple[int, int, int, dict[str, str]]]) -> bytes:
    """LiteRTLMMetaData. places: (kind, begin, end, metadata) of each section."""
    builder = Builder(4096)
    system_entries = _vector(builder, [_entry(builder, key, value) for key, value in system.items()])
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, system_entries, 0)
    system_metadata = builder.EndObject()
    objects = []
    for kind, begin, end, metadata in places:
        items = _vector(builder, [_entry(builder, key, value) for key, value in metadata.items()])
        builder.StartObject(4)
        builder.PrependUOffsetTRelativeSlot(0, items, 0)
        builder.PrependUint64Slot(1, begin, 0)
        builder.PrependUint64Slot(2, end, 0)
        builder.PrependUint8Slot(3, kind, 0)
        objects.append(builder.EndObject())
    listed = _vector(builder, objects)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, listed, 0)
    section_metadata = builder.EndObject()
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, system_metadata, 0)
    builder.PrependUOffsetTRelativeSlot(1, section_metadata, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _entry(builder: Builder, key: str, value: str) -> int:
    """KeyValuePair with a StringValue."""
    text = builder.CreateString(value)
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, text, 0)
    wrapped = builder.EndObject()
    name = builder.CreateString(key)
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    builder.PrependUint8Slot(1, _STRING_VALUE, 0)
    builder.PrependUOffsetTRelativeSlot(2, wrapped, 0)
    return int(builder.EndObject())


def _vector(builder: Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


# --- LlmMetadata: a protobuf ------------------------------------------------------------------------------------------


def _llm_metadata(prompts: PromptProgram, context_length: int, tokens: SpecialIds) -> bytes:
    """LlmMetadata. It names no start token: the engine would put one before the template's own."""
    fields = [_message(2, _token(stop)) for stop in tokens.stop]
    fields.append(_number(5, context_length))
    fields.append(_message(6, _message(1, b"")))  # llm_model_type: generic_model
    template = chat_template(prompts)
    if template is not None:
        fields.append(_message(7, template.encode()))
    if tokens.pad is not None:
        fields.append(_message(13, _token(tokens.pad)))
    return b"".join(fields)


def _token(number: int) -> bytes:
    """TokenUnion with token_ids, whose `ids` is a packed vector."""
    return _message(1, _message(1, _varint(number)))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


# --- the chat template ----------------------------------------------------------------------------------------------


def chat_template(program: PromptProgram) -> str | None:
    """A Jinja template that renders plain turns as the prompt program does; None for a raw model.

    Written anew from the program rather than taken from the model: the engine hands a message's content over as a
    list of parts even where it is one string, which models' own templates don't expect.
    """
    if program.kind == "raw":
        return None
    return "".join(_template(program))


def _template(program: PromptProgram) -> Iterator[str]:
    yield _literal(program, program.prefix)
    if program.is_folded:
        yield "{% set inside = namespace(system='') %}"
    if program.default_system:
        yield "{% if messages[0]['role'] != 'system' %}"
        yield _literal(program, program.default_system)
        yield "{% endif %}"
    yield "{% for message in messages %}"
    for role, form in program.roles.items():
        empty = f" and {_CONTENT}" if form.omit_empty else ""
        yield f"{{% if message['role'] == '{role}'{empty} %}}"
        if role == "system" and program.is_folded:
            before, after = (_quoted(program, segments) for segments in (form.before, form.after))
            yield f"{{% set inside.system = {before} ~ {_content(form, form.trim)} ~ {after} %}}"
        else:
            yield _literal(program, form.before)
            yield from _inside(program, role, form)
            yield _literal(program, form.after)
        yield "{% endif %}"
    yield "{% endfor %}"
    yield "{% if add_generation_prompt %}"
    yield _literal(program, program.generation_prompt)
    if program.end:
        yield "{% else %}"
        yield _literal(program, program.end)
    yield "{% endif %}"


def _inside(program: PromptProgram, role: str, form: RoleForm) -> Iterator[str]:
    """The content, and before it the system turn that is written inside this one."""
    if role == "user" and program.is_folded:
        yield "{% if inside.system" + (" and loop.last" if program.system == "folded_last" else "") + " %}"
        if form.trim and program.folded_trim == "all":
            yield f"{{{{ (inside.system ~ {_content(form, trim=False)}) | trim }}}}"
        else:
            yield f"{{{{ inside.system ~ {_content(form, form.trim)} }}}}"
        yield "{% set inside.system = '' %}{% else %}"
        yield f"{{{{ {_content(form, form.trim)} }}}}{{% endif %}}"
    else:
        yield f"{{{{ {_content(form, form.trim)} }}}}"


def _content(form: RoleForm, trim: bool) -> str:
    """An expression for what is written of a message's content."""
    content = _CONTENT
    if form.kept_after is not None:
        text, taken = (json.dumps(part) for part in (form.kept_after.text, form.kept_after.trim))
        kept = f"{content}.split({text})[-1]" + (f".lstrip({taken})" if form.kept_after.trim else "")
        content = f"({kept} if {text} in {content} else {content})"
    return f"{content} | trim" if trim else content


_CONTENT = (
    "(message['content'] if message['content'] is string else message['content'] | map(attribute='text') | join(''))"
)


def _literal(program: PromptProgram, segments: Segments) -> str:
    """An expression that prints these segments, special tokens as their text."""
    return f"{{{{ {_quoted(program, segments)} }}}}" if segments else ""


def _quoted(program: PromptProgram, segments: Segments) -> str:
    text = "".join(part if isinstance(part, str) else program.special_tokens[part] for part in segments)
    return json.dumps(text, ensure_ascii=False)
