"""Every operation of the ML Program evaluator against PyTorch, each in a package of its own with float32 results."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mil_cases.case import Case
from mil_cases.constants import CONSTEXPR
from mil_cases.convolution import CONVOLUTION
from mil_cases.elementwise import ELEMENTWISE
from mil_cases.linear import LINEAR
from mil_cases.movement import MOVEMENT
from mil_cases.reductions import REDUCTIONS
from satchel.runtimes.mil.constant_values import CONSTANTS
from satchel.runtimes.mil.evaluator import OPERATIONS, Evaluator
from tiny_package import op, write_package

CASES = [*ELEMENTWISE, *MOVEMENT, *REDUCTIONS, *LINEAR, *CONVOLUTION, *CONSTEXPR]


def evaluate(case: Case, path: Path) -> list[np.ndarray]:
    """What the evaluator makes of a program of this one operation, declared as PyTorch's result is."""
    expected = case.expected if isinstance(case.expected, (list, tuple)) else [case.expected]
    dtypes = {torch.float32: "float32", torch.int32: "int32", torch.int64: "int32", torch.bool: "bool"}
    outputs = [(f"y{number}", dtypes[tensor.dtype], tensor.shape) for number, tensor in enumerate(expected)]
    inputs = {name: value for name, value in case.inputs.items() if name in case.given}
    arguments = {name: name if name in inputs else value for name, value in case.inputs.items()}
    package = write_package(
        path / "model.mlpackage",
        [op(case.operation, outputs, **arguments)],
        [name for name, *_ in outputs],
        inputs={name: (str(value.dtype), value.shape) for name, value in inputs.items()},
    )
    found = Evaluator(package).run(inputs)
    return [found[name] for name, *_ in outputs]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.operation}-{number}" for number, case in enumerate(CASES)])
def test_an_operation_gives_what_pytorch_gives(case: Case, tmp_path: Path) -> None:
    expected = case.expected if isinstance(case.expected, (list, tuple)) else [case.expected]
    for found, wanted in zip(evaluate(case, tmp_path), expected, strict=True):
        assert found.shape == tuple(wanted.shape)
        np.testing.assert_allclose(found, wanted.numpy(), rtol=case.tolerance, atol=case.tolerance)


def test_every_known_operation_is_compared() -> None:
    assert {case.operation for case in CASES} == {*OPERATIONS, *CONSTANTS}
