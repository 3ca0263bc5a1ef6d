"""Where a program's bytes are: tensors by kind, by layer, by what became of them, and one by one."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from satchel.report.page.views import Part
from satchel.report.page.words import Json

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_KINDS = {
    "embed_tokens": "embedding",
    "lm_head": "head",
    "self_attn.q_proj": "attention q",
    "self_attn.k_proj": "attention k",
    "self_attn.v_proj": "attention v",
    "self_attn.o_proj": "attention output",
    "mlp.gate_proj": "MLP gate",
    "mlp.up_proj": "MLP up",
    "mlp.down_proj": "MLP down",
}
_TIED = "embedding and head"
_NORMS = "norms"
_REST = "graph, constants, alignment"
# Shown in this order, each with its colour of the page's style; what is not here comes last, in the last colours.
_ORDER = (_TIED, *_KINDS.values(), _NORMS)
_HUE = {_TIED: 0, "embedding": 0, _NORMS: 9, _REST: 12} | {
    kind: index
    for index, kind in enumerate(
        ("head", "attention q", "attention k", "attention v", "attention output", "MLP gate", "MLP up", "MLP down"), 1
    )
}
_FURTHER_HUES = (10, 11)


@dataclass(frozen=True)
class KindRow:
    """Tensors of one kind: how many, their weights, and the bytes they take in each backend's program (0: none)."""

    kind: str
    hue: int
    in_layers: bool
    tensors: int
    weights: int
    bytes: Sequence[int]

    @property
    def hint(self) -> str:
        return "one table in the model; a program may hold it twice" if self.kind == _TIED else ""


def kind_of(name: str, tied: bool) -> str:
    """What a tensor is for, whatever layer it is in."""
    stem = re.sub(r"\.(weight|bias)$", "", name)
    local = stem[found.end() :] if (found := _LAYER.search(stem)) else stem.removeprefix("model.")
    if "norm" in local.rpartition(".")[2]:
        return _NORMS
    if local == "embed_tokens" and tied:
        return _TIED
    return _KINDS.get(local, local)


def kind_rows(parts: Sequence[Part]) -> list[KindRow]:
    """Table and head first, then what a layer is made of; the last row is what the programs hold besides tensors."""
    tables = [_tensors(part) for part in parts]
    names = list(dict.fromkeys(name for table in tables for name in table))
    tied = _is_tied(names)
    rows: dict[str, list[str]] = {}
    for name in names:
        rows.setdefault(kind_of(name, tied), []).append(name)
    ordered = sorted(rows, key=lambda kind: _ORDER.index(kind) if kind in _ORDER else len(_ORDER))
    further = [kind for kind in ordered if kind not in _HUE]
    hues = _HUE | {kind: _FURTHER_HUES[index % len(_FURTHER_HUES)] for index, kind in enumerate(further)}
    found = [
        KindRow(
            kind=kind,
            hue=hues[kind],
            in_layers=any(_LAYER.search(name) for name in members),
            tensors=len(members),
            weights=sum(_count(tables, name) for name in members),
            bytes=[sum(table[name]["bytes"] for name in members if name in table) for table in tables],
        )
        for kind, members in ((kind, rows[kind]) for kind in ordered)
    ]
    rest = [part.data["bytes"] - sum(row.bytes[index] for row in found) for index, part in enumerate(parts)]
    return [*found, KindRow(_REST, _HUE[_REST], False, 0, 0, rest)]


def layer_stacks(part: Part, rows: Sequence[KindRow]) -> list[list[int]]:
    """Per layer the bytes of each kind of `rows` in this part's program."""
    tensors = _tensors(part)
    tied = _is_tied(tensors)
    order = {row.kind: index for index, row in enumerate(rows)}
    stacks: dict[int, list[int]] = {}
    for name, tensor in tensors.items():
        if (layer := _LAYER.search(name)) and (kind := order.get(kind_of(name, tied))) is not None:
            stack = stacks.setdefault(int(layer[1]), [0] * len(rows))
            stack[kind] += tensor["bytes"]
    return [stacks[layer] for layer in sorted(stacks)]


def highest_layer(parts: Sequence[Part], rows: Sequence[KindRow]) -> int:
    """Bytes of the largest layer in any of these programs."""
    return max((sum(stack) for part in parts for stack in layer_stacks(part, rows)), default=0)


def _is_tied(names: Iterable[str]) -> bool:
    return not any("lm_head" in name for name in names)


def schemes(parts: Sequence[Part]) -> list[Json]:
    """What became of the tensors: type in the source, origin, scheme, and how many with how many bytes per backend."""
    groups: dict[tuple[str, str, str], list[Counter[str]]] = {}
    for index, part in enumerate(parts):
        for tensor in part.data["tensors"]:
            key = (tensor["source_type"], tensor["origin"], tensor["scheme"])
            counter = groups.setdefault(key, [Counter() for _ in parts])[index]
            counter.update(tensors=1, bytes=tensor["bytes"])
    rows = [
        {"source_type": key[0], "origin": key[1], "scheme": key[2], "cells": counters}
        for key, counters in groups.items()
    ]
    return sorted(rows, key=lambda row: -sum(cell["bytes"] for cell in row["cells"]))


def tensor_rows(parts: Sequence[Part]) -> list[Json]:
    """Every tensor: name, shape, what became of it (of more than one scheme, all), and its bytes per backend."""
    tables = [_tensors(part) for part in parts]
    rows: list[Json] = []
    for name in dict.fromkeys(name for table in tables for name in table):
        found = [table[name] for table in tables if name in table]
        rows.append(
            {
                "name": name,
                "shape": found[0]["shape"],
                "source_type": found[0]["source_type"],
                "origin": " / ".join(dict.fromkeys(tensor["origin"] for tensor in found)),
                "scheme": " / ".join(dict.fromkeys(tensor["scheme"] for tensor in found)),
                "bytes": [table[name]["bytes"] if name in table else None for table in tables],
            }
        )
    return rows


def _tensors(part: Part) -> dict[str, Json]:
    return {tensor["name"]: tensor for tensor in part.data["tensors"]}


def _count(tables: Sequence[Mapping[str, Json]], name: str) -> int:
    total = 1
    for extent in next(table[name] for table in tables if name in table)["shape"]:
        total *= extent
    return total
