"""The graph proof, with completeness, at the widths of real models in every format."""

from collections.abc import Callable

import pytest

from real_shapes import SHAPES, shape_spec
from satchel.backends.registry import BACKENDS
from satchel.report.figures import GRAPH_TOLERANCE
from satchel.validate.graph import prove


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_graph_is_proven_with_room_to_spare(
    name: str, backend: str, record_property: Callable[[str, object], None]
) -> None:
    """`--junit-xml` keeps the figures."""
    proof = prove(shape_spec(name), BACKENDS[backend])
    record_property("graph", proof.as_dict())
    assert proof.passed
    assert proof.relative <= GRAPH_TOLERANCE / 2
