"""A model in several GGUF files, and names in capitals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.cache import Cache
from satchel.errors import CorruptModelError, ModelNotFoundError
from satchel.source.gguf.checkpoint import open_gguf
from satchel.source.gguf.parts import is_split
from satchel.source.resolve import open_model
from satchel.tools import Tools
from tiny_gguf import split_gguf

MakeGguf = Callable[..., Path]


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_stands_for_all(make_gguf: MakeGguf, tiny_arrays: dict[str, NDArray[np.float32]], given: int) -> None:
    path = make_gguf()
    parts = split_gguf(path, "Tiny_Chat", 3)
    whole, split = open_gguf(path), open_gguf(parts[given])
    assert split.config == whole.config
    assert split.tokenizer == whole.tokenizer
    assert split.tensors == whole.tensors
    for name, array in tiny_arrays.items():
        np.testing.assert_array_equal(split.read(name), array, err_msg=name)
    assert (split.model_id, split.source.reference, split.place) == ("tiny-chat", parts[0].name, parts[0])
    assert split.source.sha256 == open_gguf(parts[0]).source.sha256 != whole.source.sha256
    assert is_split(parts[given])
    assert not is_split(path)


def test_a_missing_part_is_named(make_gguf: MakeGguf) -> None:
    parts = split_gguf(make_gguf(), "tiny", 3)
    parts[1].unlink()
    with pytest.raises(ModelNotFoundError, match=r"part 3 of 3, and tiny-00002-of-00003\.gguf is not beside it"):
        open_gguf(parts[2])


def test_a_part_under_another_name(make_gguf: MakeGguf) -> None:
    parts = split_gguf(make_gguf(), "tiny", 2)
    alone = parts[1].rename(parts[1].with_name("model.gguf"))
    with pytest.raises(ModelNotFoundError, match=r"model\.gguf is one of 2 parts .* NAME-00001-of-00002\.gguf"):
        open_gguf(alone)
    parts[0].rename(parts[1])
    alone.rename(parts[0])
    with pytest.raises(CorruptModelError, match=r"tiny-00001-of-00002\.gguf says that it is part 2 of 2"):
        open_gguf(parts[1])


def test_parts_of_different_models(make_gguf: MakeGguf, tmp_path: Path) -> None:
    parts = split_gguf(make_gguf(), "tiny", 2)
    other = split_gguf(make_gguf(extra={"output.weight": np.ones((300, 64), np.float32)}), "other", 2)
    other[1].rename(parts[1])
    with pytest.raises(CorruptModelError, match="Get all parts again"):
        open_gguf(parts[0])


def test_a_count_that_is_none(make_gguf: MakeGguf) -> None:
    with pytest.raises(CorruptModelError, match=r"'two' as split\.count"):
        open_gguf(make_gguf(fields={"split.count": "two"}))
    assert open_gguf(make_gguf(fields={"split.count": 1, "split.no": 0})).config["num_hidden_layers"] == 2


def test_a_name_in_capitals(make_gguf: MakeGguf, tmp_path: Path, tiny_config: dict[str, Any]) -> None:
    path = make_gguf().rename(tmp_path / "MODEL-F32.GGUF")
    checkpoint = open_model(str(path), Cache(tmp_path / "cache"), Tools())
    assert checkpoint.model_id == "model-f32"
    assert checkpoint.config["hidden_size"] == tiny_config["hidden_size"]
