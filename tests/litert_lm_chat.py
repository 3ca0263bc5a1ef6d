"""A chat through LiteRT-LM's own engine, the way an app that uses it would have one."""

from collections.abc import Sequence
from pathlib import Path

import litert_lm

from satchel.bundle.folder import read_bundle
from satchel.package import litertlm
from satchel.reference.prompt import PromptProgram, Turn
from satchel.reference.tokenizer import Tokenizer


def chat(bundle: Path, message: str, cache: Path, max_tokens: int) -> tuple[list[int], list[int], str]:
    """(ids of the prompt as the engine makes it, as Satchel makes it, the greedy answer) for a bundle's .litertlm.

    cache: folder for the weights that the engine repacks. Fails if the engine's conversation is longer than the prompt
    and the answer, as with a start token of its own it would be.
    """
    program = PromptProgram.from_json((bundle / "prompt.json").read_text(encoding="utf-8"))
    tokenizer = Tokenizer.from_bytes((bundle / "tokenizer.bin").read_bytes())
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    backend = litert_lm.Backend.CPU(thread_count=1)
    engine = litert_lm.Engine(str(bundle / "model.litertlm"), backend=backend, cache_dir=str(cache))
    greedy = litert_lm.SamplerConfig(top_k=1, temperature=0.0, top_p=1.0, seed=0)
    with engine.create_conversation(sampler_config=greedy) as conversation:
        prompt = engine.tokenize(conversation.render_message_to_string(message))
        answer = str(conversation.send_message(message, max_output_tokens=max_tokens))
        assert len(prompt) <= conversation.token_count <= len(prompt) + max_tokens
    engine.close()
    return list(prompt), program.encode(tokenizer, [Turn("user", message)]), answer


def rendered(bundle: Path, program: PromptProgram, turns: Sequence[Turn], folder: Path) -> str:
    """What the engine makes of a conversation that ends with a user turn, with another prompt program in its file.

    folder: for that file, and for the weights that the engine repacks.
    """
    path = folder / "other.litertlm"
    tokens = read_bundle(bundle).manifest.special_ids
    tokenizer_json = (bundle / "tokenizer.json").read_text(encoding="utf-8")
    litertlm.write(path, bundle / "model.tflite", tokenizer_json, program, 96, tokens)
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    engine = litert_lm.Engine(str(path), backend=litert_lm.Backend.CPU(thread_count=1), cache_dir=str(folder))
    earlier = [{"role": turn.role, "content": [{"type": "text", "text": turn.content}]} for turn in turns[:-1]]
    with engine.create_conversation(messages=earlier) as conversation:
        text = str(conversation.render_message_to_string(turns[-1].content))
    engine.close()
    return text
