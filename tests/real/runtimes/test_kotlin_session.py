"""The Kotlin library on a desktop JVM: its logits are the C ABI's to the bit, its answers Python's to the token.

The model is a small float one, in which last bits stay last bits: int8 activations would amplify them.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from satchel.bundle.folder import Bundle
from satchel.cache import Cache
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.session import GenerateOptions, generate
from satchel.reference.tokenizer import Tokenizer
from satchel.runtimes.executorch import ExecuTorchEngine
from satchel.runtimes.jvm import HostEngine, JvmEngine, build_host_engine, server_command
from satchel.tools import Tools
from small_chat import CHUNK, SHAPE, lowered, small_chat_bundle

NEW_TOKENS = 24
C_ABI = Path(__file__).with_name("c_abi.py")
PROMPTS = [
    "What is the capital of France?",
    "And of Japan?",
    "Write a haiku about the sea.",
    "1 + 1 =",
    "",
    "  spaces   and\ttabs\n",
    "def add(a, b):\n    return a + b",
    "Größe, naïve, façade",
    "日本語のテキスト",
    "emoji 🙂🇩🇪👨‍👩‍👧",
    "<|im_end|> typed by a user",
    "It's John's, they're ours, I'll see",
    "3.14159 and 2,718",
    "A",
    "عربي و עברית",
    "Tell me a story about a very small robot that wanted to see the mountains.",
    "no",
    "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve.",
    "\u0001\u007f",
    "Thanks!",
]
MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="module")
def host(sdk_cache: Cache) -> HostEngine:
    return build_host_engine(sdk_cache, Tools())


@pytest.fixture(scope="module")
def chat_bundle(tmp_path_factory: pytest.TempPathFactory, make_bundle: MakeBundle) -> Bundle:
    return small_chat_bundle(tmp_path_factory.mktemp("chat") / "b", make_bundle)


def test_logits_are_those_of_the_c_abi(chat_bundle: Bundle, host: HostEngine, tmp_path: Path) -> None:
    tokens = np.random.default_rng(1).integers(0, chat_bundle.manifest.vocab_size, 300)
    steps = [(0, CHUNK), (CHUNK, 7), (23, 1), (24, CHUNK), (40, 1), (5, 3)]
    for start in range(48, 288, CHUNK):
        steps.append((start, CHUNK))
    with JvmEngine(server_command(host, chat_bundle.path, Tools(), threads=1), Tools()) as engine:
        kotlin = [engine.forward(tokens[start : start + count], start) for start, count in steps]
    # In a process of its own: this one may have the same libraries from the wheel's own folder.
    np.savez(tmp_path / "in.npz", tokens=tokens, steps=steps, vocabulary=chat_bundle.manifest.vocab_size)
    subprocess.run([sys.executable, C_ABI, host.native, chat_bundle.file("program"), tmp_path], check=True)
    np.testing.assert_array_equal(np.stack(kotlin), np.load(tmp_path / "out.npy"))


def test_a_sliding_window_is_that_of_the_official_kernels(
    tmp_path: Path, make_bundle: MakeBundle, host: HostEngine
) -> None:
    window = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
    program, sizes = lowered({"model_type": "gemma3_text", "vocab_size": 300, **SHAPE, **window}, (2,))
    bundle = make_bundle(tmp_path / "b", recipe="float", program=program, **sizes)
    python = ExecuTorchEngine(bundle.file("program"), threads=1)
    tokens, position = np.random.default_rng(2).integers(0, 300, 200), 0
    with JvmEngine(server_command(host, bundle.path, Tools(), threads=2), Tools()) as engine:
        for count in (CHUNK, 1, 1, 5, CHUNK, CHUNK, CHUNK, CHUNK, 9, 1):
            chunk = tokens[position : position + count]
            expected = python.forward(chunk, position)
            assert np.abs(expected).max() > 0.1  # large enough for the tolerance to mean something
            np.testing.assert_allclose(engine.forward(chunk, position), expected, atol=1e-4, rtol=0)
            position += count


def test_twenty_prompts_get_the_same_tokens_as_in_python(chat_bundle: Bundle, host: HostEngine) -> None:
    tokenizer = Tokenizer.from_bytes(chat_bundle.file("tokenizer").read_bytes())
    program = PromptProgram.from_json(chat_bundle.file("prompt").read_text(encoding="utf-8"))
    engine = ExecuTorchEngine(chat_bundle.file("program"), threads=1)
    for first in range(0, len(PROMPTS), 4):
        prompts = PROMPTS[first : first + 4]
        assert chat(host, chat_bundle, prompts) == conversation(engine, tokenizer, program, chat_bundle, prompts)


def chat(host: HostEngine, bundle: Bundle, prompts: list[str]) -> list[list[int]]:
    """The ids of the Kotlin library's answers to the turns of one conversation."""
    command = server_command(host, bundle.path, Tools(), threads=1)
    java = command[: command.index("dev.satchel.host.EngineServer")]
    run = subprocess.run(
        [*java, "dev.satchel.host.Chat", bundle.path, *prompts, "--ids", "--max-tokens", str(NEW_TOKENS)],
        env={**os.environ, "LC_ALL": "C.UTF-8"},  # else Java reads its arguments as ASCII
        check=True,
        capture_output=True,
    )
    return [[int(token) for token in line.split()] for line in run.stdout.decode().splitlines()]


def conversation(
    engine: ExecuTorchEngine, tokenizer: Tokenizer, program: PromptProgram, bundle: Bundle, prompts: list[str]
) -> list[list[int]]:
    """The same in Python: each answer's text becomes a turn."""
    turns: list[Turn] = []
    answers = []
    for prompt in prompts:
        turns.append(Turn("user", prompt))
        ids = program.encode(tokenizer, turns)
        options = GenerateOptions(max_new_tokens=NEW_TOKENS)
        chunks = list(generate(engine, tokenizer, ids, bundle.manifest.special_ids.stop, options))
        answers.append([token for chunk in chunks for token in chunk.ids])
        turns.append(Turn("assistant", "".join(chunk.text for chunk in chunks)))
    return answers
