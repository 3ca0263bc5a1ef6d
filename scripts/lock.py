"""Write requirements/*.txt: one hash-locked set per extra, all resolved together.

Run it with a Python that has `uv` installed (`pip install uv`): `python scripts/lock.py [--upgrade]`. Without
`--upgrade` the versions already locked are kept where they still fit. torch and its CUDA packages get a file of their
own, so that an environment which already has torch at the pinned version (a CPU build, say) can skip them.
No file names a registry: pip asks the one it is configured for. The hashes of the sets go into the package, for keys.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
BACKENDS = ["coreml", "executorch", "litert"]
LOCKS = ROOT / "exporter" / "satchel" / "resources" / "locks.toml"
PYTHON = "3.11"  # the oldest supported; markers cover the newer ones

# torch and what comes with its CUDA build alone: in requirements/torch.txt, which is complete in itself.
WITH_TORCH = re.compile(r"^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)$")
# What every line would repeat: the machines of [tool.uv] environments in pyproject.toml. Left in, pip would install
# nothing on another machine, without a word; left out, it says which package has no build for it.
EVERY_MACHINE = (
    "((platform_machine == 'arm64' and sys_platform == 'darwin')"
    " or (platform_machine == 'x86_64' and sys_platform == 'linux'))"
)
HEADER = "# Written by scripts/lock.py; do not edit.\n"


def compile_set(sources: list[str], extras: list[str], constraints: list[Path], upgrade: bool, old: Path) -> str:
    """The locked text of one set; `old` is the file whose versions are kept unless `upgrade`."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "locked.txt"
        if old.exists() and not upgrade:
            output.write_text(old.read_text())
        command = [sys.executable, "-m", "uv", "pip", "compile", *sources, "--universal", "--generate-hashes"]
        command += ["--python-version", PYTHON, "--no-header", "--no-annotate", "--no-emit-index-url"]
        command += ["--quiet", "--output-file", str(output)]
        for extra in extras:
            command += ["--extra", extra]
        for constraint in constraints:
            command += ["--constraint", str(constraint)]
        if upgrade:
            command.append("--upgrade")
        subprocess.run(command, cwd=ROOT, check=True)
        return without_common_markers(output.read_text())


def without_common_markers(locked: str) -> str:
    for common in (f" and {EVERY_MACHINE}", " and python_full_version < '3.14'", " ; python_full_version < '3.14'"):
        locked = re.sub(re.escape(common) + r"( and )?", lambda match: " ; " if match[1] else "", locked)
    return locked


def blocks(locked: str) -> dict[str, str]:
    """Package name -> its requirement line with the hash lines that follow (a name may have several, by marker)."""
    found: dict[str, str] = {}
    name = ""
    for line in locked.splitlines(keepends=True):
        if line.startswith("#"):
            continue
        if not line.startswith(" "):
            name = re.split(r"[=<>;\[ ]", line, maxsplit=1)[0].lower()
        found[name] = found.get(name, "") + line
    return found


def write(name: str, packages: dict[str, str]) -> None:
    text = HEADER + "".join(packages[key] for key in sorted(packages))
    if "://" in text:
        raise SystemExit(f"requirements/{name}.txt would name an address; nothing was written")
    (REQUIREMENTS / f"{name}.txt").write_text(text)


def main() -> None:
    upgrade = "--upgrade" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        everything = Path(folder) / "everything.txt"
        known = Path(folder) / "known.txt"
        known.write_text("".join(path.read_text() for path in sorted(REQUIREMENTS.glob("*.txt"))))
        sources = ["pyproject.toml", "requirements/build.in", "requirements/bench.in", "requirements/bench-llama.in"]
        everything.write_text(compile_set(sources, [*BACKENDS, "jdk", "dev"], [], upgrade, known))

        def locked(sources: list[str], extras: list[str]) -> dict[str, str]:
            return blocks(compile_set(sources, extras, [everything], False, everything))

        base = locked(["pyproject.toml"], [])
        heavy = {extra: locked(["pyproject.toml"], [extra]) for extra in BACKENDS}
        beyond_base = {
            extra: {name: text for name, text in locked(["pyproject.toml"], [extra]).items() if name not in base}
            for extra in ("dev", "jdk")
        }
        write("build", locked(["requirements/build.in"], []))
        write("base", base)
        write("torch", locked(["requirements/torch.in"], []))
        bench = locked(["requirements/bench.in"], [])
        write("bench", bench)
        llama = locked(["requirements/bench-llama.in"], [])
        write("bench-llama", {name: text for name, text in llama.items() if name not in bench})
        for extra, packages in heavy.items():
            write(extra, {name: text for name, text in packages.items() if not WITH_TORCH.match(name)})
        for extra, packages in beyond_base.items():
            write(extra, packages)
    LOCKS.write_text(lock_hashes(), encoding="utf-8")


def lock_hashes() -> str:
    """The text of resources/locks.toml: per backend, the sha256 of the packages and versions that it is locked to."""
    lines = [HEADER.rstrip(), "# What a result was made with, for its key in the cache."]
    for name in BACKENDS:
        locked = [(REQUIREMENTS / f"{one}.txt").read_text() for one in (name, "torch")]
        pins = sorted(set(re.findall(r"^[A-Za-z0-9._-]+==[^ \\;]+", "".join(locked), re.MULTILINE)))
        digest = hashlib.sha256("\n".join(pins).encode()).hexdigest()
        lines.append(f'{name} = "{digest}"')
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
