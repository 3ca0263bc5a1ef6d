"""Codes for float weights: within the grid, near the best, and never a scale that a runtime refuses."""

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.quantize.grid import GridCodes, quantize_weight
from satchel.quantize.plan import TensorPlan

SYMMETRIC = TensorPlan("int4", 32)
OFFSET = TensorPlan("int4", 32, offset=True)
INT8 = TensorPlan("int8")
_SMALLEST_NORMAL = 2.0**-126


def _weight(rows: int = 40, width: int = 96, seed: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def _value(grid: GridCodes, width: int) -> NDArray[np.float64]:
    scale = grid.scale.reshape(len(grid.codes), -1).astype(np.float64)
    blocks = grid.codes.reshape(*scale.shape, -1) * scale[..., None]
    if grid.offset is not None:
        blocks = blocks + grid.offset[..., None].astype(np.float64)
    return blocks.reshape(-1, width)


def _assert_runtimes_take(grid: GridCodes) -> None:
    assert (grid.scale >= _SMALLEST_NORMAL).all()
    assert np.isfinite(grid.scale).all()


def test_int8_is_nearest_rounding_per_row() -> None:
    weight = _weight()
    grid = quantize_weight(weight, INT8)
    np.testing.assert_array_equal(grid.scale, np.abs(weight).max(axis=1) / np.float32(127))
    assert np.abs(grid.codes).max(axis=1).tolist() == [127] * len(weight)
    assert (np.abs(_value(grid, 96) - weight) <= grid.scale[:, None] * 0.5001).all()
    assert grid.offset is None


@pytest.mark.parametrize("plan", [SYMMETRIC, OFFSET])
def test_int4_scales_are_bfloat16_and_codes_in_range(plan: TensorPlan) -> None:
    grid = quantize_weight(_weight(), plan)
    np.testing.assert_array_equal(grid.scale.astype(ml_dtypes.bfloat16).astype(np.float32), grid.scale)
    assert grid.codes.min() >= -8
    assert grid.codes.max() <= 7
    assert (grid.offset is not None) == plan.offset
    _assert_runtimes_take(grid)


@pytest.mark.parametrize("plan", [SYMMETRIC, OFFSET])
def test_int4_is_never_worse_than_plain_rounding(plan: TensorPlan) -> None:
    weight = _weight(rows=2000, width=32)
    error = ((_value(quantize_weight(weight, plan), 32) - weight) ** 2).sum(axis=1)
    if plan.offset:
        low, high = weight.min(axis=1, keepdims=True), weight.max(axis=1, keepdims=True)
        step = (high - low) / 15
        plain = np.rint((weight - low) / step) * step + low
    else:
        step = np.abs(weight).max(axis=1, keepdims=True) / 7
        plain = np.rint(weight / step) * step
    baseline = ((plain - weight) ** 2).sum(axis=1)
    # The baseline's scale isn't rounded to bfloat16, so a single block may be a little worse; together they must win.
    assert error.sum() < 0.95 * baseline.sum()
    assert (error < 1.3 * baseline).all()


def test_a_weight_already_on_the_symmetric_grid_is_kept_exactly() -> None:
    random = np.random.default_rng(1)
    codes = random.integers(-7, 8, (20, 64)).astype(np.int8)
    codes[:, ::32] = 7
    scale = random.uniform(0.01, 1, (20, 2)).astype(ml_dtypes.bfloat16).astype(np.float32)
    weight = (codes.reshape(20, 2, 32) * scale[..., None]).reshape(20, 64).astype(np.float32)
    grid = quantize_weight(weight, SYMMETRIC)
    np.testing.assert_array_equal(_value(grid, 64), weight)


@pytest.mark.parametrize("plan", [SYMMETRIC, OFFSET, INT8])
@pytest.mark.parametrize("constant", [0.0, 0.25, -3.0, 1e-42, -1e-39, 1e30])
def test_constant_weights_are_exact_or_harmless(plan: TensorPlan, constant: float) -> None:
    weight = np.full((3, 64), constant, dtype=np.float32)
    grid = quantize_weight(weight, plan)
    _assert_runtimes_take(grid)
    # One bfloat16 rounding of the scale is 2^-9 of the value; an offset or a float32 scale is exact.
    tolerance = abs(constant) * (2.0**-8 if plan is SYMMETRIC else 2.0**-22) + 2.0**-125
    np.testing.assert_allclose(_value(grid, 64), weight, rtol=0, atol=tolerance)


def test_the_offset_is_the_mean_of_the_rest() -> None:
    weight = _weight() + np.float32(0.7)
    grid = quantize_weight(weight, OFFSET)
    rest = (weight - _value(grid, 96)).reshape(-1, 32)
    np.testing.assert_allclose(rest.mean(axis=1), 0, atol=1e-7)


def test_rows_do_not_depend_on_how_the_tensor_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = _weight(rows=50)
    whole = quantize_weight(weight, OFFSET)
    monkeypatch.setattr("satchel.quantize.grid._CHUNK_VALUES", 7 * 96)
    cut = quantize_weight(weight, OFFSET)
    np.testing.assert_array_equal(whole.codes, cut.codes)
    np.testing.assert_array_equal(whole.scale, cut.scale)
    np.testing.assert_array_equal(whole.offset, cut.offset)
