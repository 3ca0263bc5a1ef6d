"""A 4-bit source's codes on our grid, against the algebra in exact rational arithmetic."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from satchel.quantize.plan import TensorPlan
from satchel.quantize.transcode import transcode
from satchel.source.checkpoint import SourceCodes

OFFSET = TensorPlan("int4", 32, offset=True)
SYMMETRIC = TensorPlan("int4", 32)


def _source(scales: list[float], offsets: list[float] | None = None, seed: int = 2) -> SourceCodes:
    """One row of blocks with these scales; every code occurs in every block."""
    random = np.random.default_rng(seed)
    codes = np.concatenate([random.permutation(np.tile(np.arange(16), 2)) for _ in scales]).astype(np.uint8)
    return SourceCodes(
        codes=codes[None],
        scale=np.array([scales], np.float32),
        offset=np.array([offsets or [0.0] * len(scales)], np.float32),
        group=32,
    )


def _exact(source: SourceCodes) -> list[list[Fraction]]:
    """Each block's weights, exactly."""
    return [
        [Fraction(float(d)) * (int(q) - 8) + Fraction(float(o)) for q in block]
        for d, o, block in zip(source.scale[0], source.offset[0], source.codes[0].reshape(-1, 32), strict=True)
    ]


def test_codes_stay_and_the_offset_takes_up_the_mean() -> None:
    source = _source([0.0123, 0.5, 3e-8, 700.0], [0.1, -2.0, 0.0, 1e-3])
    grid = transcode(source, OFFSET)
    assert grid is not None and grid.offset is not None
    np.testing.assert_array_equal(grid.codes, source.codes.astype(np.int8) - 8)
    np.testing.assert_array_equal(grid.scale, source.scale.astype(ml_dtypes.bfloat16).astype(np.float32))
    for i, weights in enumerate(_exact(source)):
        rest = [
            w - Fraction(float(grid.scale[0, i])) * int(c)
            for w, c in zip(weights, grid.codes[0, 32 * i :], strict=False)
        ]
        assert grid.offset[0, i] == np.float32(float(sum(rest) / 32))


def test_a_negative_scale_is_turned_round_exactly() -> None:
    source = _source([-0.5, -0.25], [0.0, 1.0])  # powers of two: no rounding anywhere
    grid = transcode(source, OFFSET)
    assert grid is not None and grid.offset is not None
    np.testing.assert_array_equal(grid.codes, 7 - source.codes.astype(np.int8))
    np.testing.assert_array_equal(grid.scale, [[0.5, 0.25]])
    np.testing.assert_array_equal(grid.offset, [[0.5, 1.25]])
    ours = grid.codes.reshape(2, 32) * grid.scale[0][:, None] + grid.offset[0][:, None]
    assert [[Fraction(float(w)) for w in block] for block in ours] == _exact(source)


@pytest.mark.parametrize("scale", [0.0, -0.0, 1e-39, -1e-42, 1e-45])
def test_a_scale_that_runtimes_refuse_becomes_the_blocks_mean(scale: float) -> None:
    grid = transcode(_source([scale, 0.5], [0.75, 0.0]), OFFSET)
    assert grid is not None and grid.offset is not None
    assert grid.codes[0, :32].tolist() == [0] * 32
    assert grid.scale[0].tolist() == [1.0, 0.5]
    assert grid.offset[0].tolist() == [0.75, 0.0]


def test_without_offset_only_a_centred_positive_source_fits() -> None:
    fitting = transcode(_source([0.5, 0.0]), SYMMETRIC)
    assert fitting is not None
    assert fitting.offset is None
    assert fitting.scale.tolist() == [[0.5, 1.0]]
    assert fitting.codes[0, 32:].tolist() == [0] * 32
    assert transcode(_source([0.5, -0.5]), SYMMETRIC) is None
    assert transcode(_source([0.5, 0.5], [0.0, 1e-6]), SYMMETRIC) is None


def test_other_plans_do_not_take_codes() -> None:
    assert transcode(_source([0.5, 0.5]), TensorPlan("int4", 64, offset=True)) is None
    assert transcode(_source([0.5, 0.5]), TensorPlan("int8")) is None
