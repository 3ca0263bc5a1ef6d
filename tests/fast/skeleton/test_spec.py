"""One skeleton for every form that a model is found in: as published, saved again, as GGUF, with one more stop id."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from published_configs import PUBLISHED, SAVED
from satchel.backends.registry import BACKENDS
from satchel.quantize.plan import QuantPlan
from satchel.quantize.planning import plan_for
from satchel.quantize.recipe import load_recipe
from satchel.skeleton.spec import ProgramSpec
from satchel.source.architectures import BY_MODEL_TYPE
from satchel.source.checkpoint import ArrayCheckpoint, Checkpoint, SourceInfo, TokenizerAssets
from satchel.source.directory import open_directory
from satchel.source.gguf.checkpoint import open_gguf
from satchel.source.support import checked_config
from satchel.validate.skeletons import skeleton_key
from tiny_gguf import write_gguf
from tiny_model import TINY_CONFIG, random_weights, write_json

SOURCE = SourceInfo("directory", "x", None, "00", None)


def key(config: dict[str, Any], backend: str, stops: tuple[int, ...] = (2,), bos: int | None = 1) -> str:
    tokenizer = TokenizerAssets("{}", None, bos, None, None, stops)
    model = ArrayCheckpoint("x", SOURCE, checked_config("x", config), tokenizer, {})
    return text_of(model, QuantPlan({}, True), backend)


def text_of(model: Checkpoint, plan: QuantPlan, backend: str) -> str:
    return json.dumps(skeleton_key(BACKENDS[backend], ProgramSpec.of(model, plan, 96, 16)), sort_keys=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_saved_fine_tune_finds_the_skeleton_of_the_published_model(name: str, backend: str) -> None:
    published = key(dict(PUBLISHED[name]), backend)
    assert key(dict(SAVED[name]), backend) == published
    assert key(dict(SAVED[name]), backend, stops=(2, 7), bos=None) == published
    assert key({**SAVED[name], "max_position_embeddings": 512}, backend) == published
    assert key({**SAVED[name], "rms_norm_eps": 1e-3}, backend) != published


def test_every_architecture_is_among_them() -> None:
    assert {config["model_type"] for config in PUBLISHED.values()} == set(BY_MODEL_TYPE)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gguf_file_and_the_folder_saved_of_it_have_one(
    make_directory: Callable[..., Path], tmp_path: Path, backend: str
) -> None:
    config = {**TINY_CONFIG, "vocab_size": 259}
    weights = random_weights(config)
    published = open_directory(make_directory("published", config=config, arrays=weights))
    gguf = open_gguf(write_gguf(tmp_path / "tiny.gguf", config, weights))
    saved = {key: value for key, value in config.items() if key != "rope_theta"}
    eps = float(np.float32(config["rms_norm_eps"]))
    rope = {"rope_type": "default", "rope_theta": 10000}
    folder = make_directory("saved", arrays=weights)
    write_json(
        folder / "config.json", {**saved, "rms_norm_eps": eps, "rope_parameters": rope, "eos_token_id": [257, 258]}
    )
    models = [published, gguf, open_directory(folder)]
    keys = {text_of(model, plan_for(load_recipe("int8"), model), backend) for model in models}
    assert len(keys) == 1
