"""Every backend in one literal dict: grep finds everything. A new one is a module beside this and a line here."""

from collections.abc import Mapping

from satchel.backends.backend import Backend
from satchel.backends.coreml import CoreMl, CoreMlNativeOffset
from satchel.backends.executorch import ExecuTorch
from satchel.backends.litert import LiteRt
from satchel.bundle.folder import Bundle
from satchel.errors import BundleError

BACKENDS: Mapping[str, Backend] = {"executorch": ExecuTorch(), "litert": LiteRt(), "coreml": CoreMl()}

# Options of a backend that give another program: (backend, variant) -> the backend.
NATIVE_OFFSET = CoreMlNativeOffset.variant
VARIANTS: Mapping[tuple[str, str], Backend] = {("coreml", NATIVE_OFFSET): CoreMlNativeOffset()}


def backend_of(bundle: Bundle) -> Backend:
    """The backend that a bundle is for. Raises BundleError if this Satchel does not have it."""
    name, variant = bundle.manifest.backend, bundle.manifest.variant
    if name not in BACKENDS or (variant and (name, variant) not in VARIANTS):
        raise BundleError(
            f"{bundle.path} is for the backend {' '.join(filter(None, (name, variant)))!r}, and this Satchel has only "
            f"{', '.join(BACKENDS)}. Use the Satchel that built it, or a newer one."
        )
    return VARIANTS[name, variant] if variant else BACKENDS[name]
