"""What coremltools says: what is known and harmless is dropped by its exact text, all else reaches the user.

It warns about every version newer than those it was released with. Satchel pins these versions and proves what comes
out of them with every lowering (graph, slots, reading back), which tests more than a version number does.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata

import torch

_NOT_TESTED = (
    "{0} version {1} has not been tested with coremltools. You may run into unexpected errors. "
    "{0} {2} is the most recent version that has been tested."
)
_NO_SKLEARN = (
    "scikit-learn version {} is not supported. Minimum required version: 0.17. Maximum required version: 1.5.1. "
    "Disabling scikit-learn conversion API."
)
_NO_RUNTIME = "Failed to load {}: No module named 'coremltools.libcoremlpython'"
_RUNTIME = (
    "_MLModelProxy",
    "_MLModelAssetProxy",
    "_MLComputePlanProxy",
    "_MLCPUComputeDeviceProxy",
    "_MLGPUComputeDeviceProxy",
    "_MLNeuralEngineComputeDeviceProxy",
)
_STATES = ("keyCache", "valueCache")


def known() -> set[str]:
    """The sayings that are known, for the versions that are installed."""
    texts = {_NO_RUNTIME.format(name) for name in _RUNTIME}  # Apple's runtime, which is on a Mac only
    texts |= {f"Torch var {name} is added again." for name in _STATES}  # a state is both an input and a buffer
    texts.add(_NOT_TESTED.format("Torch", torch.__version__, "2.7.0"))
    with suppress(metadata.PackageNotFoundError):  # comes with ExecuTorch
        texts.add(_NO_SKLEARN.format(metadata.version("scikit-learn")))
    return texts


@contextmanager
def unknown_messages() -> Iterator[list[str]]:
    """Within the block, coremltools' log and numpy's warnings are silent; afterwards the value holds those that are
    not known, each once, and they have been logged as errors of `satchel`."""
    logger = logging.getLogger("coremltools")
    collector = _Collector()
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    # `quiet` disables logging below ERROR everywhere; here it is to be heard all the same.
    logger.isEnabledFor = lambda level: level >= logging.WARNING  # type: ignore[method-assign]
    unknown: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as raised:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", RuntimeWarning)  # an overflow in a constant, say
            yield unknown
    finally:
        del logger.isEnabledFor
        logger.removeHandler(collector)
        logger.propagate = propagated
    said = dict.fromkeys([*collector.messages, *(str(warning.message) for warning in raised)])
    unknown += [message for message in said if message not in known()]
    for message in unknown:
        logging.getLogger("satchel").error("coremltools says: %s", message)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
