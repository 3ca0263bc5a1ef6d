"""What a converter raises, as one error: the only place where a backend's lowering turns foreign errors into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from satchel.errors import LoweringError, SatchelError
from satchel.skeleton.spec import ProgramSpec


@contextmanager
def converter_failures(converter: str, spec: ProgramSpec) -> Iterator[None]:
    """Within the block, whatever `converter` raises becomes a LoweringError that names it, with its cause attached.

    An error of Satchel's own passes: a model that can't be lowered exactly is refused as what it is (exit code 4),
    also where that only shows while a converter runs the model.
    """
    try:
        yield
    except SatchelError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise LoweringError(f"{converter} could not lower {spec.config.get('model_type')}: {reason}") from error
