"""Packages that plain coremltools makes of ordinary models give what PyTorch gives, in float16 and in float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import core_ml_packages
from satchel.commands.inspect import inspect
from satchel.errors import ProgramInputError
from satchel.runtimes.mil.evaluator import Evaluator

# Largest difference, relative to the largest value: of one float16 rounding after another, and of the order of sums.
TOLERANCE = {"float16": 2e-3, "float32": 2e-6}
PRECISIONS = pytest.mark.parametrize("precision", list(TOLERANCE))


def assert_near(found: np.ndarray, wanted: torch.Tensor, precision: str) -> None:
    expected = wanted.detach().numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()


def only(outputs: dict[str, np.ndarray]) -> np.ndarray:
    (found,) = outputs.values()
    return found


@PRECISIONS
def test_a_convolution_net(precision: str, tmp_path: Path) -> None:
    model, package = core_ml_packages.convolution_net(tmp_path / "net.mlpackage", precision)
    program = Evaluator(package)
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    assert_near(only(program.run({"image": image.numpy().astype(precision)})), model(image), precision)
    with pytest.raises(ProgramInputError, match="image has shape"):
        program.run({"image": np.zeros((1, 3, 31, 32), precision)})


@PRECISIONS
def test_a_small_encoder_of_any_length(precision: str, tmp_path: Path) -> None:
    model, package = core_ml_packages.encoder(tmp_path / "encoder.mlpackage", precision)
    program = Evaluator(package)
    for length in (1, 7, 24):
        ids = torch.arange(3, 3 + 4 * length, 4, dtype=torch.int32)[None]
        assert_near(only(program.run({"ids": ids.numpy()})), model(ids), precision)
    with pytest.raises(ProgramInputError, match=r"program takes 1..1x1..24"):
        program.run({"ids": np.zeros((1, 25), np.int32)})
    kinds = {(row.dtype, row.used_as) for row in inspect(package).tensors}
    assert {(precision, "embedding"), (precision, "linear")} <= kinds


@PRECISIONS
def test_a_stateful_decoder_in_chunks(precision: str, tmp_path: Path) -> None:
    """Of several lengths, up to a full cache; a float32 program casts around its states, which have no float32."""
    model, package = core_ml_packages.decoder(tmp_path / "decoder.mlpackage", precision)
    program = Evaluator(package, exact=precision == "float32")
    ids = torch.arange(7, 7 + 3 * model.context, 3, dtype=torch.int32)[None] % 50
    state: dict[str, Any] = program.make_state()
    past = 0
    for count in (5, 1, 1, 6, 3):
        mask = torch.full((1, 1, count, past + count), -65504.0).triu(past + 1)
        chunk = ids[:, past : past + count]
        inputs = {"ids": chunk.numpy(), "mask": mask.numpy().astype(program.inputs["mask"].dtype)}
        with torch.no_grad():
            assert_near(only(program.run(inputs, state)), model(chunk, mask), precision)
        past += count
    assert past == model.context
    assert_near(state["keys"], model.keys, precision)
    assert_near(state["values"], model.values, precision)
