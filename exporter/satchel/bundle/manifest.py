"""The bundle: a folder of artifacts and manifest.json, the only contract between Python and devices.

docs/bundle-format.md describes the format. Readers keep fields they do not know, so that a newer Satchel of the same
schema can add some, and refuse a schema version they do not know. Nothing measured is in a bundle: the same inputs give
the same bytes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from satchel.errors import BundleError

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
DEFAULT_ANDROID_BACKEND = "executorch"  # whose library has the model's plain name

Json = Mapping[str, Any]
VerdictStatus = Literal["passed", "failed", "weights-only"]

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


# --- the manifest -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Artifact:
    """One file of the bundle, or one folder (a .mlpackage): then `bytes` and `sha256` are of all its files.

    `sha256` is lowercase hex; hashing.content_sha256 says what a folder's is.
    """

    role: str  # "program" | "tokenizer_json" | "tokenizer" | "prompt" | "golden" | "slots" | ...
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Origin:
    """Where the weights came from: the fields of the checkpoint's SourceInfo that a manifest records."""

    kind: str
    reference: str
    revision: str | None
    sha256: str


@dataclass(frozen=True)
class BundledModel:
    """Which model it is. `license` is an SPDX identifier where the source states one."""

    id: str
    architecture: str
    license: str | None
    source: Origin


@dataclass(frozen=True)
class SpecialIds:
    """Token ids; `stop` holds every id that ends a turn."""

    bos: int | None
    eos: int | None
    pad: int | None
    stop: tuple[int, ...]


@dataclass(frozen=True)
class Requirements:
    """The oldest SDK and runtime that can run the program, and per ABI the CPU features (names of /proc/cpuinfo).

    memory_bytes: what a device should have free before it loads the program, predicted; None in older bundles.
    compute_units: for Core ML, the units to ask for; None for other backends, whose manifests don't have the field.
    """

    sdk: str
    runtime: str
    cpu_features: Mapping[str, tuple[str, ...]]
    memory_bytes: int | None = None
    compute_units: str | None = None


@dataclass(frozen=True)
class Verdict:
    """`passed`: every proof. `failed`: not every one, in a rejected bundle. `weights-only`: behaviour was not measured.

    `gates`: name -> the limit that was set.
    """

    status: VerdictStatus
    gates: Mapping[str, float]


@dataclass(frozen=True)
class Manifest:
    """manifest.json. `variant`: of the backend, empty for the usual one. `notes`: what a bundle's user should know.

    `unknown` holds the whole JSON that was read; what it has beyond the fields here is kept."""

    model: BundledModel
    recipe: str
    backend: str
    context_length: int  # tokens
    prefill_chunk: int  # tokens
    vocab_size: int
    special_ids: SpecialIds
    generation_defaults: Mapping[str, float | int]
    requires: Requirements
    verdict: Verdict
    tools: Mapping[str, str]
    variant: str = ""
    notes: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    unknown: Json = field(default_factory=dict, repr=False, compare=False)

    @property
    def library_name(self) -> str:
        """The artifact id of the model library and its folder in an app's assets: `<model>-<recipe>`, with the backend
        behind it unless it is the one that Android apps use by default."""
        name = f"{self.model.id}-{self.recipe}"
        return name if self.backend == DEFAULT_ANDROID_BACKEND else f"{name}-{self.backend}"

    def artifact(self, role: str) -> Artifact:
        """The artifact of that role. Raises BundleError if the bundle has none."""
        for artifact in self.artifacts:
            if artifact.role == role:
                return artifact
        roles = ", ".join(artifact.role for artifact in self.artifacts) or "none"
        raise BundleError(f"The bundle has no artifact of the role {role!r} (it has: {roles}).")

    def to_json(self) -> dict[str, Any]:
        """The JSON object, unknown fields included."""
        known: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "model": {
                "id": self.model.id,
                "architecture": self.model.architecture,
                "license": self.model.license,
                "source": dict(vars(self.model.source)),
            },
            "recipe": self.recipe,
            "backend": self.backend,
            "artifacts": [_with_unknown(dict(vars(artifact)), self.unknown) for artifact in self.artifacts],
            "context_length": self.context_length,
            "prefill_chunk": self.prefill_chunk,
            "vocab_size": self.vocab_size,
            "special_ids": {**vars(self.special_ids), "stop": list(self.special_ids.stop)},
            "generation_defaults": dict(self.generation_defaults),
            "requires": {
                "sdk": self.requires.sdk,
                "runtime": self.requires.runtime,
                "cpu_features": {abi: list(names) for abi, names in self.requires.cpu_features.items()},
                **({} if self.requires.memory_bytes is None else {"memory_bytes": self.requires.memory_bytes}),
                **({"compute_units": units} if (units := self.requires.compute_units) else {}),
            },
            "verdict": {
                "status": self.verdict.status,
                "gates": {name: {"limit": limit} for name, limit in self.verdict.gates.items()},
            },
            "tools": dict(self.tools),
            **({"variant": self.variant} if self.variant else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }
        return _merged(known, self.unknown)

    @classmethod
    def from_json(cls, data: Json, where: str = MANIFEST) -> "Manifest":
        """The manifest in `data`, read from `where`. Raises BundleError: unknown schema, missing or wrong field."""
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{where}: schema_version is {version!r}, this Satchel reads {SCHEMA_VERSION}. "
                "Build the bundle again, or use the Satchel that wrote it."
            )
        read = _Fields(data, where)
        model, requires, verdict = read.fields("model"), read.fields("requires"), read.fields("verdict")
        source, special = model.fields("source"), read.fields("special_ids")
        status = verdict.text("status")
        if status not in get_args(VerdictStatus):
            known = ", ".join(get_args(VerdictStatus))
            raise BundleError(f"{where}: verdict.status is {status!r}, not one of {known}.")
        return cls(
            model=BundledModel(
                id=model.text("id"),
                architecture=model.text("architecture"),
                license=model.optional_text("license"),
                source=Origin(
                    kind=source.text("kind"),
                    reference=source.text("reference"),
                    revision=source.optional_text("revision"),
                    sha256=source.text("sha256"),
                ),
            ),
            recipe=read.text("recipe"),
            backend=read.text("backend"),
            context_length=read.number("context_length"),
            prefill_chunk=read.number("prefill_chunk"),
            vocab_size=read.number("vocab_size"),
            special_ids=SpecialIds(
                bos=special.optional_number("bos"),
                eos=special.optional_number("eos"),
                pad=special.optional_number("pad"),
                stop=tuple(special.take("stop", list)),
            ),
            generation_defaults=read.take("generation_defaults", dict),
            requires=Requirements(
                sdk=requires.text("sdk"),
                runtime=requires.text("runtime"),
                cpu_features={abi: tuple(names) for abi, names in requires.take("cpu_features", dict).items()},
                memory_bytes=requires.optional_number("memory_bytes"),
                compute_units=requires.optional_text("compute_units"),
            ),
            verdict=Verdict(
                status=cast("VerdictStatus", status),
                gates={name: float(gate["limit"]) for name, gate in verdict.take("gates", dict).items()},
            ),
            tools=read.take("tools", dict),
            variant=read.optional_text("variant") or "",
            notes=tuple(data.get("notes") or ()),
            artifacts=tuple(_artifact(entry, where) for entry in read.take("artifacts", list)),
            unknown=data,
        )


class _Fields:
    """Typed access to one JSON object, with the field's path in every error."""

    def __init__(self, data: Json, where: str) -> None:
        self._data, self._where = data, where

    def take(self, name: str, kind: type) -> Any:
        value = self._data.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            found = "missing" if name not in self._data else f"{value!r}"
            raise BundleError(f"{self._where}: field {name!r} is {found}, expected {kind.__name__}. Build it again.")
        return value

    def fields(self, name: str) -> "_Fields":
        return _Fields(self.take(name, dict), f"{self._where}: {name}")

    def text(self, name: str) -> str:
        return str(self.take(name, str))

    def number(self, name: str) -> int:
        return int(self.take(name, int))

    def optional_text(self, name: str) -> str | None:
        return None if self._data.get(name) is None else self.text(name)

    def optional_number(self, name: str) -> int | None:
        return None if self._data.get(name) is None else self.number(name)


def _artifact(entry: Any, where: str) -> Artifact:
    if not isinstance(entry, dict):
        raise BundleError(f"{where}: artifacts holds {entry!r}, expected an object. Build it again.")
    fields = _Fields(entry, f"{where}: artifacts")
    artifact = Artifact(fields.text("role"), fields.text("file"), fields.number("bytes"), fields.text("sha256"))
    if not _PLAIN_NAME.fullmatch(artifact.file):  # a bundle may come from elsewhere: it names files of its own folder
        raise BundleError(f"{where}: artifact file {artifact.file!r} is not a plain file name.")
    if not _SHA256.fullmatch(artifact.sha256):
        raise BundleError(f"{where}: sha256 of {artifact.file} is {artifact.sha256!r}, not 64 lowercase hex digits.")
    return artifact


def _with_unknown(artifact: dict[str, Any], unknown: Json) -> dict[str, Any]:
    """The artifact with the fields that the manifest it was read from has beyond ours."""
    for entry in unknown.get("artifacts", ()):
        if entry.get("role") == artifact["role"]:
            return {**entry, **artifact}
    return artifact


def _merged(known: Json, unknown: Json) -> dict[str, Any]:
    """`known` plus what only `unknown` has, object by object. Free maps (gates, tools, ...) are ours alone."""
    merged = {**unknown, **known}
    for name in ("model", "special_ids", "requires", "verdict", "source"):
        if isinstance(known.get(name), dict) and isinstance(unknown.get(name), dict):
            merged[name] = _merged(known[name], unknown[name])
    return merged
