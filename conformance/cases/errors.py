"""What is refused: options out of range, prompts that can't be answered, texts that are no history."""

import math
from collections.abc import Callable
from typing import Any

from cases.prompt import prompt_programs
from cases.sampler import number
from cases.scripted import END, TOKENIZER, ScriptedEngine, ids_of
from cases.session import session_options
from satchel.errors import ContextLengthError, LogitsError, SatchelError, UsageError
from satchel.reference.chat import ChatHistory, ChatSession
from satchel.reference.prompt import Turn
from satchel.reference.session import EngineMemory, GenerateOptions, generate

# name -> what the message says the value must be, values in range, values out of range
RANGES: dict[str, tuple[str, tuple[Any, ...], tuple[Any, ...]]] = {
    "max_new_tokens": ("at least 1", (1, 2**31 - 1), (0, -1)),
    "temperature": ("0 (greedy) to 100", (0.0, -0.0, 1e-300, 100.0), (-0.001, -1.0, 100.5, 1e300, math.nan, math.inf)),
    "top_k": ("at least 1", (1, 2**31 - 1), (0, -5)),
    "top_p": ("above 0, to 1", (1e-300, 0.5, 1.0), (0.0, -0.1, 1.0000001, math.nan)),
    "min_p": ("0 to 1", (0.0, 0.5, 1.0), (-1e-9, 1.5, math.nan)),
    "repetition_penalty": ("0.1 to 10", (0.1, 1.0, 10.0), (0.0, 0.099, 10.5, -1.0, math.nan)),
    "presence_penalty": ("-2 to 2", (-2.0, 0.0, 2.0), (-2.001, 3.0, math.nan, -math.inf)),
    "frequency_penalty": ("-2 to 2", (-2.0, 0.0, 2.0), (-2.001, 3.0, math.nan, math.inf)),
    "timeout": ("above 0", (1e-3, 86400.0), (0.0, -1.0)),
}
BIASES: tuple[tuple[dict[str, float], str | None], ...] = (
    ({"0": 100.0, "5": -100.0, "7": -math.inf}, None),
    ({"0": 100.001}, "-100 to 100, or negative infinity"),
    ({"3": -101.0}, "-100 to 100, or negative infinity"),
    ({"3": math.inf}, "-100 to 100, or negative infinity"),
    ({"3": math.nan}, "-100 to 100, or negative infinity"),
    ({"-1": 1.0}, "at least 0"),
)
STOP_STRINGS: tuple[tuple[list[str], str | None], ...] = (
    (["x"] * 16, None),
    (["x"] * 17, "0 to 16"),
    ([""], "1 to 256"),
    (["x" * 256], None),
    (["\U0001f600" * 256], None),
    (["x" * 257], "1 to 256"),
    (["a", "\ud83d"], "half of a surrogate pair"),
    (["\ude00\ud83d"], "half of a surrogate pair"),
)
HISTORIES: tuple[str, ...] = (
    '{"schema_version": 1, "instructions": null, "turns": []}',
    '{"schema_version": 1, "instructions": "", "turns": [], "later": {"x": 1}}',
    '{"schema_version": 1, "instructions": "Be brief.", "turns": [{"role": "user", "text": "a", "later": 0}, '
    '{"role": "assistant", "text": "\\u4f60 \\"b\\"\\n"}]}',
    '{"schema_version": 2, "instructions": null, "turns": []}',
    '{"schema_version": "1", "instructions": null, "turns": []}',
    '{"instructions": null, "turns": []}',
    '{"schema_version": 1, "turns": []}',
    '{"schema_version": 1, "instructions": null}',
    '{"schema_version": 1, "instructions": 5, "turns": []}',
    '{"schema_version": 1, "instructions": null, "turns": {}}',
    '{"schema_version": 1, "instructions": null, "turns": [{"role": "user", "text": "a"}]}',
    '{"schema_version": 1, "instructions": null, "turns": [{"role": "assistant", "text": "a"}]}',
    '{"schema_version": 1, "instructions": null, "turns": [{"role": "user", "text": "a"}, '
    '{"role": "user", "text": ""}]}',
    '{"schema_version": 1, "instructions": null, "turns": [{"role": "system", "text": "a"}]}',
    '{"schema_version": 1, "instructions": null, "turns": [{"role": "user", "text": 1}, '
    '{"role": "assistant", "text": "b"}]}',
    '{"schema_version": 1, "instructions": null, "turns": [{"role": "user"}, {"role": "assistant", "text": "b"}]}',
    '{"schema_version": 1, "instructions": null, "turns": ["user", "assistant"]}',
    "[]",
    "null",
    "",
    "{",
)


def refusal(make: Callable[[], object]) -> str | None:
    """The message with which `make` is refused; None if it is not."""
    try:
        make()
    except SatchelError as error:
        return str(error)
    return None


def option_cases() -> list[dict[str, Any]]:
    every: list[tuple[dict[str, Any], str | None]] = []
    for name, (wanted, inside, outside) in RANGES.items():
        every += [({name: value}, None) for value in inside]
        every += [({name: value}, wanted) for value in outside]
    every += [({"logit_bias": bias}, wanted) for bias, wanted in BIASES]
    every += [({"stop_strings": strings}, wanted) for strings, wanted in STOP_STRINGS]
    cases: list[dict[str, Any]] = []
    for options, wanted in every:
        message = refusal(lambda options=options: session_options(options))
        assert (message is None) == (wanted is None), (options, message)
        assert wanted is None or wanted in str(message), (options, message)
        cases.append({"options": written(options), "mentions": [] if wanted is None else [wanted]})
    return cases


def written(options: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON can hold them."""

    def value(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: value(inner) for name, inner in item.items()}
        return number(item) if isinstance(item, float) else item

    return {name: value(item) for name, item in options.items()}


def history_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for text in HISTORIES:
        try:
            history = ChatHistory.from_json(text)
        except UsageError:
            cases.append({"json": text, "refused": True})
        else:
            assert ChatHistory.from_json(history.to_json()) == history
            turns = [{"role": turn.role, "text": turn.content} for turn in history.turns]
            cases.append({"json": text, "refused": False, "instructions": history.instructions, "turns": turns})
    return cases


def request_cases() -> list[dict[str, Any]]:
    """Requests that fail: raw prompts, with the kind of error and what its message names."""
    requests: tuple[tuple[int, dict[str, Any], str, list[str]], ...] = (
        # number of prompt tokens, options, kind, mentions
        (0, {}, "misuse", ["empty"]),
        (33, {}, "context", ["33", "32"]),
        (1000, {}, "context", ["1000", "32"]),
        (3, {"logit_bias": {str(TOKENIZER.vocab_size): 1.0}}, "misuse", [str(TOKENIZER.vocab_size)]),
        (3, {"logit_bias": {"2000000000": 1.0}}, "misuse", ["2000000000"]),
        (3, {"logit_bias": {str(token): -math.inf for token in range(TOKENIZER.vocab_size)}}, "runtime", ["forbids"]),
    )
    kinds = {"misuse": UsageError, "context": ContextLengthError, "runtime": LogitsError}
    cases: list[dict[str, Any]] = []
    for length, options, kind, mentions in requests:
        engine = ScriptedEngine(32, 8)
        engine.prompt, engine.answer = length, [*ids_of("Hi"), END]
        try:
            list(generate(engine, TOKENIZER, [7] * length, [END], session_options(options)))
        except kinds[kind] as error:
            message = str(error)
        else:
            message = ""
        assert message, f"{length} tokens with {options} should be refused"
        assert all(word in message for word in mentions), message
        cases.append(
            {
                "prompt": length,
                "context_length": 32,
                "prefill_chunk": 8,
                "options": written(options),
                "answer": list(engine.answer),
                "error": kind,
                "mentions": mentions,
                "calls": engine.calls,
            }
        )
    return cases


class BrokenEngine(ScriptedEngine):
    """Gives nothing but `bad` logits after so many ids of the answer; None: never."""

    bad = math.nan
    broken_after: int | None = None

    def forward(self, tokens: Any, position: int) -> Any:
        logits = super().forward(tokens, position)
        if position + len(tokens) - self.prompt == self.broken_after:
            logits[:] = self.bad
        return logits


def logits_cases() -> list[dict[str, Any]]:
    """Logits that no token can be drawn from, after so many good answers; the session can be used again."""
    cases = []
    for bad, after in ((math.nan, 0), (math.nan, 2), (math.inf, 1), (-math.inf, 1)):
        engine = BrokenEngine(64, 16)
        engine.bad, engine.broken_after = bad, after
        program = prompt_programs()["chatml"]
        session = ChatSession(EngineMemory(engine), TOKENIZER, program, [END])
        engine.prompt = len(program.encode(TOKENIZER, [Turn("user", "a")]))
        engine.answer = [*ids_of("Hello world"), END]
        text = ""
        try:
            for chunk in session.stream_response("a", GenerateOptions()):
                text += chunk.text
        except LogitsError:
            pass
        else:
            raise AssertionError("nonsense should be refused")
        assert session.history == ChatHistory()
        case = {"bad": number(bad), "after": after, "prompt_tokens": engine.prompt, "answer": list(engine.answer)}
        engine.broken_after = None
        *_, last = session.stream_response("a", GenerateOptions())
        assert last.stats is not None
        cases.append({**case, "text": text, "error": "runtime", "cached_after": last.stats.cached_tokens})
    return cases


def busy_cases() -> list[dict[str, Any]]:
    """A second request while so many chunks of the first were read: it is refused, the first one goes on."""
    cases = []
    for chunks in (1, 2, 3):
        engine = ScriptedEngine(64, 16)
        program = prompt_programs()["chatml"]
        session = ChatSession(EngineMemory(engine), TOKENIZER, program, [END])
        engine.prompt = len(program.encode(TOKENIZER, [Turn("user", "a")]))
        engine.answer = [*ids_of("Hello world"), END]
        running = session.stream_response("a", GenerateOptions())
        text = "".join(next(running).text for _ in range(chunks))
        assert refusal(lambda session=session: next(session.stream_response("b", GenerateOptions()))) is not None
        text += "".join(chunk.text for chunk in running)
        cases.append({"chunks": chunks, "prompt_tokens": engine.prompt, "answer": list(engine.answer), "text": text})
    return cases


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""

    return {
        "errors.json": {
            "options": option_cases(),
            "histories": history_cases(),
            "requests": request_cases(),
            "logits": logits_cases(),
            "busy": busy_cases(),
            "stop_id": END,
        }
    }
