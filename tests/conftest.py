"""What every tier needs: a cache of its own, the default model, tiny models on disk, and the rule about print()."""

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import example_android
from example_android import BuiltApp
from satchel.bundle.folder import Bundle, read_bundle, write_manifest
from satchel.bundle.manifest import BundledModel, Manifest, Origin, Requirements, SpecialIds, Verdict
from satchel.cache import Cache
from satchel.cli import main
from satchel.package.android.sdk import compile_sdk
from satchel.source.alias import DEFAULT_MODEL, aliases
from satchel.source.fetch import fetch
from satchel.tools import Tools
from tiny_model import TINY_CONFIG, Arrays, random_weights, write_directory

MakeDirectory = Callable[..., Path]
MakeBundle = Callable[..., Bundle]


@pytest.fixture(autouse=True)
def no_print(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails any test in which Satchel's code, console.py apart, calls print()."""
    real_print = builtins.print
    offenders: list[str] = []

    def watched(*values: Any, **options: Any) -> None:
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        if caller.split(".")[0] == "satchel" and caller != "satchel.console":
            offenders.append(caller)
        real_print(*values, **options)

    monkeypatch.setattr(builtins, "print", watched)
    yield
    assert not offenders, f"print() was called by {', '.join(offenders)}; only satchel.console may"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache that only this test sees."""
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="session")
def making(tmp_path_factory: pytest.TempPathFactory) -> FileLock:
    """Held while something is made in the user's cache: another process of these tests waits, and finds it there."""
    return FileLock(tmp_path_factory.getbasetemp().parent / "making.lock")


@pytest.fixture(scope="session")
def default_gguf(making: FileLock) -> Path:
    """The default model's GGUF file, in the user's cache (fetched once)."""
    with making:
        return fetch(aliases()[DEFAULT_MODEL], Cache.default(), Tools())


@pytest.fixture(scope="session")
def sdk_cache(making: FileLock) -> Cache:
    """A cache that has the SDK, compiled once for all tests and for the builds of the same user."""
    with making:
        compile_sdk(Cache.default(), Tools())
    return Cache.default()


@pytest.fixture(scope="session")
def default_build(tmp_path_factory: pytest.TempPathFactory, default_gguf: Path, sdk_cache: Cache) -> Path:
    """The default model's ExecuTorch build: bundle/ and android/maven. It is lowered and
    measured in the user's cache, where `make android` finds it, or has left it."""
    out = tmp_path_factory.mktemp("default") / "build"
    assert main(["build", DEFAULT_MODEL, "--backend", "executorch", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def example_app(tmp_path_factory: pytest.TempPathFactory, default_build: Path) -> BuiltApp:
    """The example app with the default model, built the way `make example-android` does it."""
    return example_android.build(Tools(), default_build / "android" / "maven", tmp_path_factory.mktemp("app"))


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """A Llama of two layers whose every width is a multiple of 32."""
    return dict(TINY_CONFIG)


@pytest.fixture
def tiny_arrays(tiny_config: dict[str, Any]) -> Arrays:
    """Random weights for `tiny_config`."""
    return random_weights(tiny_config)


@pytest.fixture
def make_directory(tmp_path: Path, tiny_config: dict[str, Any], tiny_arrays: Arrays) -> MakeDirectory:
    """make_directory(name="tiny", config={}, arrays=None, dtype="F32", shards=1): a Hugging Face directory.

    `config` overrides keys of the tiny Llama's (None removes one).
    """

    def make(
        name: str = "tiny",
        config: Mapping[str, Any] | None = None,
        arrays: Arrays | None = None,
        dtype: str = "F32",
        shards: int = 1,
    ) -> Path:
        merged = {key: value for key, value in {**tiny_config, **(config or {})}.items() if value is not None}
        return write_directory(tmp_path / name, merged, tiny_arrays if arrays is None else arrays, dtype, shards)

    return make


BUNDLE_FILES = {
    "program": "model.pte",
    "tokenizer_json": "tokenizer.json",
    "tokenizer": "tokenizer.bin",
    "prompt": "prompt.json",
    "golden": "golden.json",
    "slots": "slots.json",
}


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """make_bundle(folder, model="tiny", recipe="int4", backend="executorch", program=None, **sizes): a bundle on disk.

    Its files are a few bytes, but for `program`. `sizes` replaces fields of the manifest, e.g. vocab_size.
    """

    def make(
        folder: Path,
        model: str = "tiny",
        recipe: str = "int4",
        backend: str = "executorch",
        program: bytes | None = None,
        sha256: str = "ab" * 32,
        **sizes: int,
    ) -> Bundle:
        folder.mkdir(parents=True)
        for role, name in BUNDLE_FILES.items():
            (folder / name).write_bytes(f"{role} of {model}\n".encode() * 100)
        if program is not None:
            (folder / BUNDLE_FILES["program"]).write_bytes(program)
        manifest = Manifest(
            model=BundledModel(model, "LlamaForCausalLM", "apache-2.0", Origin("gguf", model, "0.1.2", sha256)),
            recipe=recipe,
            backend=backend,
            special_ids=SpecialIds(bos=1, eos=2, pad=None, stop=(2,)),
            generation_defaults={"temperature": 0.0, "max_new_tokens": 256},
            requires=Requirements("0.1.0", "1.5.0", {"arm64-v8a": ("asimddp",)}),
            verdict=Verdict("passed", {"kl_mean": 0.035, "top1": 0.88}),
            tools={"satchel": "0.1.0"},
            **{"context_length": 2048, "prefill_chunk": 64, "vocab_size": 512, **sizes},
        )
        write_manifest(folder, manifest, BUNDLE_FILES)
        return read_bundle(folder)

    return make
