"""The command line: each command parses, calls one function and prints what it returns.

Nothing heavy is imported here: `satchel --help` must answer at once, so every command imports what it needs inside.
`main` is the only place where an error becomes an exit code.
"""

import atexit
import datetime
import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import click

from satchel import __version__
from satchel.console import Console
from satchel.errors import GateFailedError, NotBuiltYetError, SatchelError
from satchel.quiet import end_quietly

TARGETS = ("android", "ios", "all")
BACKENDS = ("executorch", "litert", "coreml")
VALIDATION_TARGETS = ("host", "jvm", "arm64", "adb", "simulator")
TARGET_BACKENDS = {"android": ("executorch", "litert"), "ios": ("coreml",), "all": BACKENDS}
BUILT_VALIDATION_TARGETS = ("host", "jvm")

_OURS = (None, errno.ENOENT, errno.EBADF, errno.EINVAL)  # every other error is about the machine and its files
INTERRUPTED = 130  # what a shell reports for Ctrl-C

json_option = click.option("--json", "json_output", is_flag=True, help="Print one JSON object on standard output.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="satchel")
def cli() -> None:
    """Turn one small language model into verified mobile packages.

    \b
    Exit codes: 0 done, 2 wrong usage, 3 a gate failed, 4 the model or bundle can't be used,
    5 a tool or dependency is missing, 1 anything else.
    """


@cli.command()
@click.argument("model")
@click.option("--target", type=click.Choice(TARGETS), default="android", show_default=True, help="What to package for.")
@click.option("--backend", "backends", type=click.Choice(BACKENDS), multiple=True, help="May be repeated.")
@click.option("--recipe", default="int4", show_default=True, metavar="NAME|FILE", help="How weights are stored.")
@click.option("--context", type=click.IntRange(min=1), metavar="N", help="Context length in tokens.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="build", show_default=True)
@click.option("--no-validate", is_flag=True, help="Skip the comparison with the float model (weights are proven).")
@click.option(
    "--litertlm/--no-litertlm", default=True, show_default=True, help="Also pack the LiteRT program for LiteRT-LM."
)
@click.option(
    "--coreml-offset",
    type=click.Choice(("linear", "native")),
    default="linear",
    show_default=True,
    help="Where a Core ML program has the offsets of 4-bit blocks; native (in the weights) has not run on a device.",
)
@click.option("--group", default="dev.satchel", show_default=True, help="Maven group of the libraries.")
@click.option("--namespace", default="dev.satchel", show_default=True, help="Android namespace of the libraries.")
@click.option("--model-version", default=__version__, show_default=True, help="Maven version of the model library.")
@json_option
def build(
    model: str,
    target: str,
    backends: tuple[str, ...],
    recipe: str,
    context: int | None,
    out: Path,
    no_validate: bool,
    litertlm: bool,
    coreml_offset: str,
    group: str,
    namespace: str,
    model_version: str,
    json_output: bool,
) -> None:
    """Quantize, lower, prove and package MODEL.

    MODEL is a built-in name (see `satchel models`), a Hugging Face directory, org/name[@revision], or a .gguf file.
    """
    console = Console(json_output)
    from satchel.commands.build import BuildOptions
    from satchel.commands.build import build as build_model

    result = build_model(
        BuildOptions(
            model=model,
            backends=backends or TARGET_BACKENDS[target],
            recipe=recipe,
            context=context,
            out=out,
            validate=not no_validate,
            companions=litertlm,
            coreml_offset=coreml_offset,
            group=group,
            namespace=namespace,
            model_version=model_version,
        ),
        console,
    )
    console.artifacts(result.rows)
    console.line(f"Report: {result.report_html}")
    console.result(result.report)
    if result.failure:
        raise GateFailedError(result.failure)
    if result.gradle:
        console.block(
            "Paste into settings.gradle.kts, and from `dependencies` on into the app's build.gradle.kts:", result.gradle
        )
    console.judgement(result.report)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", "backends", type=click.Choice(BACKENDS), multiple=True, help="May be repeated.")
@click.option(
    "--text",
    "texts",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    multiple=True,
    help="Evaluate on this text instead of the built-in ones. May be repeated.",
)
@click.option("--model", help="The float model to compare with, if the bundle's source is not in the cache.")
@click.option(
    "--target", type=click.Choice(VALIDATION_TARGETS), default="host", show_default=True, help="Where to run."
)
@json_option
def validate(
    bundle: Path,
    backends: tuple[str, ...],
    texts: tuple[Path, ...],
    model: str | None,
    target: str,
    json_output: bool,
) -> None:
    """Prove again that BUNDLE still computes the original model.

    BUNDLE is one bundle folder or the folder above several.
    """
    _require_built("--target", target, BUILT_VALIDATION_TARGETS)
    console = Console(json_output)
    from satchel.commands.validate import ValidateOptions
    from satchel.commands.validate import validate as validate_bundles

    result = validate_bundles(
        ValidateOptions(bundle=bundle, backends=backends, texts=texts, model=model, target=target), console
    )
    console.verdict(result.report)
    console.result(result.report)
    if result.failure:
        raise GateFailedError(result.failure)


@cli.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt")
@click.option("--backend", type=click.Choice(BACKENDS), help="Which bundle, if there are several.")
@click.option("--raw", is_flag=True, help="Feed PROMPT as it stands, without the chat template.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=256, show_default=True, metavar="N")
@click.option("--temperature", type=click.FloatRange(min=0), metavar="T", help="0 is greedy. Default: the bundle's.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="S")
@json_option
def generate(
    bundle: Path,
    prompt: str,
    backend: str | None,
    raw: bool,
    max_tokens: int,
    temperature: float | None,
    seed: int,
    json_output: bool,
) -> None:
    """Stream the model's answer to PROMPT."""
    console = Console(json_output)
    from satchel.commands.generate import GenerateRequest
    from satchel.commands.generate import generate as generate_text

    answer = generate_text(
        GenerateRequest(
            bundle=bundle,
            prompt=prompt,
            backend=backend,
            raw=raw,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
        ),
        console,
    )
    console.text("\n")
    console.result(answer)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def inspect(path: Path, json_output: bool) -> None:
    """List the tensors of an artifact: dtype, shape, bytes, bits.

    PATH is a bundle folder, the folder above several, or one artifact file.
    """
    console = Console(json_output)
    from satchel.commands.inspect import inspect as inspect_path

    listing = inspect_path(path)
    console.table(listing.columns, listing.rows, right=listing.right)
    console.result(listing.to_dict())


@cli.command()
@click.argument("model")
@click.option("--recipe", default="int4", show_default=True, metavar="NAME|FILE", help="How weights are stored.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR")
@json_option
def quantize(model: str, recipe: str, out: Path, json_output: bool) -> None:
    """Quantize MODEL into DIR without lowering it."""
    console = Console(json_output)
    from satchel.commands.quantize import quantize as quantize_model

    summary = quantize_model(model, recipe, out, console)
    console.table(("", ""), [(name, str(value)) for name, value in summary.items()])
    console.result(summary)


@cli.command()
@json_option
def models(json_output: bool) -> None:
    """List the built-in models."""
    console = Console(json_output)
    from satchel.source.alias import aliases

    found = aliases().values()
    console.table(("model", "licence", "description"), [(one.name, one.license, one.description) for one in found])
    console.result({"models": [asdict(one) for one in found]})


@cli.command()
@json_option
def recipes(json_output: bool) -> None:
    """List the recipes: how weights can be stored."""
    console = Console(json_output)
    from satchel.quantize.recipe import recipes as all_recipes

    found = all_recipes().values()
    console.table(("recipe", "description"), [(one.name, one.description) for one in found])
    console.result({"recipes": [asdict(one) for one in found]})


@cli.command()
@json_option
def doctor(json_output: bool) -> None:
    """Check that this machine has what a build needs."""
    console = Console(json_output)
    from satchel.commands import doctor as machine

    checks = machine.examine()
    console.table(
        ("", "what", "found", "needed for"),
        [("✓" if check.found else "✗", check.name, check.found or "missing", check.needed_for) for check in checks],
    )
    console.result({"ok": machine.is_ready(checks), "checks": [asdict(check) for check in checks]})
    machine.require(checks)


@cli.group()
def cache() -> None:
    """Show or shrink the cache of models, lowered programs and measurements."""


@cache.command("info")
@json_option
def cache_info(json_output: bool) -> None:
    """List what the cache holds, by kind."""
    console = Console(json_output)
    from satchel.cache import Cache
    from satchel.commands.cache import cache_info as kinds_in
    from satchel.console import size

    cache = Cache.default()
    kinds = kinds_in(cache)
    console.table(
        ("kind", "entries", "size", "last used"),
        [(kind.stage, str(kind.entries), size(kind.bytes), _day(kind.last_used)) for kind in kinds],
        right=("entries", "size"),
    )
    console.line(f"{size(sum(kind.bytes for kind in kinds))} in {cache.root}")
    console.result({"root": str(cache.root), "kinds": [asdict(kind) for kind in kinds]})


@cache.command("prune")
@click.option(
    "--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Remove what was not used for so long."
)
@click.option("--max-size", metavar="SIZE", help="Then what was unused the longest, until so much is left, e.g. 10GB.")
@json_option
def cache_prune(older_than: float | None, max_size: str | None, json_output: bool) -> None:
    """Remove what is old from the cache, or too much. What a running build has stays."""
    console = Console(json_output)
    from satchel.cache import Cache
    from satchel.commands.cache import prune
    from satchel.console import size

    removed = prune(Cache.default(), older_than, max_size)
    console.line(f"{removed['removed']} entries removed, {size(removed['bytes'])} free again")
    console.result(removed)


def _day(seconds: float) -> str:
    return datetime.date.fromtimestamp(seconds).isoformat()


def _require_built(option: str, value: str, built: Sequence[str]) -> None:
    if value not in built:
        raise NotBuiltYetError(
            f"{option} {value} is not built yet in satchel {__version__}. Built so far: {', '.join(built)}."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Never raises, except for errors in the error handling itself."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    console = Console("--json" in words)
    if sys.stdout is None:  # closed by the caller: the next file that is opened would take its place
        console.error("Standard output is closed, so no result could be printed. Leave it open, or name a file: > FILE")
        return 1
    try:
        cli.main(args=words, prog_name="satchel", standalone_mode=False)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "satchel"
        console.error(error.format_message(), hint=f"See: {where} --help")
        return 2
    except SatchelError as error:
        console.error(str(error))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.note("Interrupted. Nothing half-written is left behind; the same command resumes where it stopped.")
        return INTERRUPTED
    except OSError as error:
        if error.errno in _OURS:
            console.defect(error)
        else:
            console.error(f"{error.filename or 'A file'} can't be read or written: {error.strerror}.")
        return 1
    except Exception as error:
        console.defect(error)
        return 1
    return 0


def _hash_strings_alike() -> None:
    """Starts this very process again where Python hashes strings by chance: converters and transformers iterate over
    sets of names (Gemma 3's kinds of attention), and the order must not be another one in every process."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})


def entry() -> NoReturn:
    """The `satchel` command.

    Warnings of the libraries below (deprecations, mostly) are for their developers: `python -W default -m satchel`
    shows them, otherwise a person sees only what Satchel says.
    """
    _hash_strings_alike()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
    atexit.register(end_quietly)
    sys.exit(main())
