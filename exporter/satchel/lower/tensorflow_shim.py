"""litert-torch 0.10.0 imports tensorflow's flatbuffer schema for an image model; ai-edge-litert ships the same file.

`tests/litert/test_litert.py` fails when the import works without this, so that the shim goes when it can.
"""

import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

_PACKAGES = ("tensorflow", "tensorflow.lite", "tensorflow.lite.python")
_SCHEMA = "tensorflow.lite.python.schema_py_generated"


@contextmanager
def tensorflow_shim() -> Iterator[None]:
    """Within the block, `tensorflow.lite.python.schema_py_generated` can be imported; nothing else of tensorflow."""
    from ai_edge_litert import schema_py_generated

    for name in _PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = []
        package.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        sys.modules[name] = package
    sys.modules[_SCHEMA] = schema_py_generated
    sys.modules[_PACKAGES[-1]].schema_py_generated = schema_py_generated  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for name in (*_PACKAGES, _SCHEMA):
            sys.modules.pop(name, None)
