"""What a converter raises is one error with its cause; what Satchel raises stays what it is."""

import pytest

from satchel.errors import BadWeightsError, LoweringError, SatchelError, UnsupportedModelError
from satchel.lower.failures import converter_failures
from satchel.quantize.plan import QuantPlan
from satchel.skeleton.spec import ProgramSpec

SPEC = ProgramSpec({"model_type": "llama"}, QuantPlan({}, True), 96, 16, None, ())


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("no such operator"), "Converter could not lower llama: no such operator"),
        (AssertionError(), "Converter could not lower llama: AssertionError"),
    ],
)
def test_a_converters_error_names_it_and_keeps_its_cause(raised: Exception, said: str) -> None:
    with pytest.raises(LoweringError) as caught, converter_failures("Converter", SPEC):
        raise raised
    assert str(caught.value) == said
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    "raised", [UnsupportedModelError("a soft cap"), BadWeightsError("no weight"), LoweringError("a norm"), SystemExit()]
)
def test_an_error_of_satchels_own_and_an_end_pass(raised: BaseException) -> None:
    with pytest.raises((SatchelError, SystemExit)) as caught, converter_failures("Converter", SPEC):
        raise raised
    assert caught.value is raised


def test_what_goes_well_goes_on() -> None:
    with converter_failures("Converter", SPEC):
        done = True
    assert done
