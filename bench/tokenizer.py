"""How fast a tokenizer opens and encodes on the JVM, beside Hugging Face's `tokenizers`: `python bench/tokenizer.py`.

Real tokenizers (tests/data/tokenizers.toml, and the default model's), 2 MB of English prose, each run in a process of
its own. Prints, for each tokenizer: milliseconds to open it the first time in a process and again, megabytes encoded a
second (median of nine), for Kotlin and for Hugging Face. Aims: opens in 30 ms, 2 MB/s. Needs Maven and npm once.
"""

import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from real_tokenizers import (  # type: ignore[import-not-found]
    compiled_tokenizer,
    fetch_tokenizer,
    real_tokenizers,
)
from satchel.cache import Cache
from satchel.package.android.sdk import compile_sdk
from satchel.source.alias import DEFAULT_MODEL, aliases
from satchel.source.fetch import fetch
from satchel.source.gguf.header import read_header
from satchel.source.gguf.tokenizer import tokenizer_assets
from satchel.tools import Tools

BYTES = 2_000_000
HUGGING_FACE = """
import statistics, sys, time
from tokenizers import Tokenizer
text = open(sys.argv[2], encoding="utf-8").read()
def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
opened = [seconds(lambda: Tokenizer.from_file(sys.argv[1])) for _ in range(3)]
tokenizer = Tokenizer.from_file(sys.argv[1])
encoded = [seconds(lambda: tokenizer.encode(text, add_special_tokens=False)) for _ in range(9)]
print("open_first_ms", opened[0] * 1000)
print("open_ms", statistics.median(opened) * 1000)
print("encode_mb_per_s", len(text.encode()) / 1e6 / statistics.median(encoded))
print("tokens", len(tokenizer.encode(text, add_special_tokens=False).ids))
"""


def main() -> None:
    tools = Tools()
    classes = ":".join(map(str, compile_sdk(Cache.default(), tools).host_class_path))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        text = folder / "prose.txt"
        text.write_text(prose(), encoding="utf-8")
        print(f"{'':10} {'':12} {'first open':>10} {'open':>8} {'encode':>9}")
        for name in ("smollm2", *real_tokenizers()):
            source = folder / f"{name}.json"
            source.write_text(tokenizer_json(name, tools), encoding="utf-8")
            binary = compiled_tokenizer(name, source.read_text(encoding="utf-8"), folder)
            java = [str(tools.java.executable), "-cp", classes, "dev.satchel.host.Tokenize", "measure", str(binary)]
            kotlin = measured([*java, str(text)])
            theirs = measured([sys.executable, "-c", HUGGING_FACE, str(source), str(text)])
            for who, figures in (("Kotlin", kotlin), ("tokenizers", theirs)):
                opened = f"{figures['open_first_ms']:7.0f} ms {figures['open_ms']:5.1f} ms"
                print(f"{name:10} {who:12} {opened} {figures['encode_mb_per_s']:4.1f} MB/s")
            if kotlin["tokens"] != theirs["tokens"]:
                raise SystemExit(f"{name}: {kotlin['tokens']:.0f} tokens, not {theirs['tokens']:.0f}")


def prose() -> str:
    """The evaluation text in English, again and again."""
    file = resources.files("satchel.resources") / "text" / "evaluation" / "prose.txt"
    text = file.read_text(encoding="utf-8")
    return text * (BYTES // len(text.encode()) + 1)


def tokenizer_json(name: str, tools: Tools) -> str:
    if name == "smollm2":
        gguf = fetch(aliases()[DEFAULT_MODEL], Cache.default(), tools)
        return tokenizer_assets(read_header(gguf).fields).tokenizer_json
    folder: Path = fetch_tokenizer(name)
    return (folder / "tokenizer.json").read_text(encoding="utf-8")


def measured(command: list[str]) -> dict[str, float]:
    """The figures that a command prints, by name."""
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in (line.split() for line in output.splitlines())}


if __name__ == "__main__":
    main()
