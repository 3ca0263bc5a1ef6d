"""Turns in; what is fed, what was still remembered, and what the session has then, out."""

from collections.abc import Iterator
from typing import Any

from cases.prompt import prompt_programs
from cases.sampler import options_of
from cases.scripted import END, TOKENIZER, ScriptedEngine, ids_of
from satchel.errors import ContextLengthError
from satchel.reference.chat import ChatHistory, ChatSession
from satchel.reference.prompt import Turn
from satchel.reference.session import ContextPolicy, EngineMemory, GenerateOptions, TextChunk, generate

PROGRAMS = prompt_programs()
BIG = {"context_length": 400, "prefill_chunk": 16}
DROP = {"context_policy": "drop_oldest_turns"}


def ask(prompt: str, answer: str = "Hello.", **more: Any) -> dict[str, Any]:
    """A request: options and the like in `more`. An answer that ends with a bar has no end of turn."""
    ids = ids_of(answer.removesuffix("|"))
    return {"prompt": prompt, "answer": ids if answer.endswith("|") else [*ids, END], **more}


CASES: tuple[dict[str, Any], ...] = (
    # of every turn's prompt only what follows the answer before is fed
    {**BIG, "requests": [ask("Hello world"), ask("the thing"), ask("a")]},
    {**BIG, "instructions": "Be brief.", "requests": [ask("Hello world"), ask("the thing"), ask("a")]},
    {**BIG, "instructions": "", "requests": [ask("x"), ask("y")]},
    {"context_length": 400, "prefill_chunk": 1, "requests": [ask("x"), ask("y")]},
    {"context_length": 400, "prefill_chunk": 400, "requests": [ask("x"), ask("y")]},
    # an answer that was encoded otherwise than its text would be: what differs is fed again
    {**BIG, "requests": [{"prompt": "a", "answer": [*ids_of("t"), *ids_of("h"), *ids_of("e"), END]}, ask("b")]},
    # an empty answer, an answer cut in a character, one that the limit ends
    {**BIG, "requests": [ask("a", ""), ask("b")]},
    {**BIG, "requests": [{"prompt": "a", "answer": [*ids_of("\u20ac")[:2], END]}, ask("b")]},
    {**BIG, "requests": [ask("a", "Hello world|", options={"max_new_tokens": 2}), ask("b")]},
    {**BIG, "requests": [ask("a", "one two three", options={"stop_strings": ["wo"]}), ask("b")]},
    # the same prompt again: all but its last token is remembered
    {**BIG, "requests": [{**ask("a <s>b"), "raw": True}, {**ask("a <s>b"), "raw": True}]},
    {**BIG, "requests": [{**ask("abcd"), "raw": True}, {**ask("ab"), "raw": True}, {**ask("abcd!"), "raw": True}]},
    {**BIG, "requests": [{**ask("x"), "raw": True}, {**ask("y"), "raw": True}]},
    # two sessions of one model take turns: what they share is remembered
    {**BIG, "instructions": "Be brief.", "requests": [ask("a"), ask("b", session=1), ask("c"), ask("d", session=1)]},
    {**BIG, "requests": [ask("a"), {**ask("Hello"), "raw": True}, ask("c")]},
    # stop() and a reader who leaves: after so many chunks
    {**BIG, "requests": [ask("a", "Hello world it's", stop_after=1), ask("b")]},
    {**BIG, "requests": [ask("a", "Hello world it's", stop_after=3), ask("b")]},
    {**BIG, "requests": [ask("a", "Hello world it's", leave_after=1), ask("b")]},
    {**BIG, "requests": [ask("a", "Hello world it's", leave_after=3), ask("b"), ask("c")]},
    {**BIG, "requests": [ask("a"), ask("b", "Hello world", leave_after=2), ask("b"), ask("c", stop_after=1), ask("d")]},
    {**BIG, "requests": [ask("a", "\u4f60\U0001f600!", stop_after=1), ask("b")]},
    {**BIG, "requests": [ask("a", "Hi|", stop_after=2, options={"max_new_tokens": 2})]},
    # time: the clock moves by so many seconds with each call of the engine
    {**BIG, "seconds_per_call": 1.0, "requests": [ask("a", "Hello world it's", options={"timeout": 4.5}), ask("b")]},
    {**BIG, "seconds_per_call": 1.0, "requests": [ask("a", "Hello world it's", options={"timeout": 5.0}), ask("b")]},
    {**BIG, "seconds_per_call": 1.0, "requests": [ask("Hello " * 9, options={"timeout": 1.0}), ask("b")]},
    {**BIG, "seconds_per_call": 1.0, "requests": [ask("Hello " * 9, options={"timeout": 2.5}), ask("Hello " * 9)]},
    {**BIG, "seconds_per_call": 1.0, "requests": [ask("a", "Hello", options={"timeout": 1000.0})]},
    {**BIG, "seconds_per_call": 9.0, "requests": [ask("a", "Hi|", options={"timeout": 1.0, "max_new_tokens": 1})]},
    # the context: an answer that fills it, a conversation that no longer fits
    {"context_length": 64, "prefill_chunk": 8, "requests": [ask("a", "Hello world " * 9), ask("b")]},
    {"context_length": 64, "prefill_chunk": 8, "requests": [ask("Hello world " * 9)]},
    {"context_length": 64, "prefill_chunk": 8, "requests": [ask("Hello world " * 9, options=DROP)]},
    {
        "context_length": 128,
        "prefill_chunk": 8,
        "instructions": "Be brief.",
        "requests": [ask(f"question {number}", options=DROP) for number in range(6)],
    },
    {
        "context_length": 128,
        "prefill_chunk": 8,
        "requests": [ask(f"q {number}", options={**DROP, "max_new_tokens": 8}) for number in range(6)],
    },
    # dropped turns stay dropped, whatever the next options say
    {
        "context_length": 128,
        "prefill_chunk": 8,
        "requests": [
            *(ask(f"q {number}", "Hello world it's the thing", options=DROP) for number in range(3)),
            ask("q", options={"max_new_tokens": 1}),
            ask("q"),
        ],
    },
    # so long a question that every turn goes, and the room for an answer as well
    {"context_length": 128, "prefill_chunk": 64, "requests": [ask("a"), ask("b"), ask("xy" * 33, options=DROP)]},
    {"context_length": 128, "prefill_chunk": 64, "requests": [ask("a"), ask("xy" * 60, options=DROP), ask("b")]},
    # a long history that is restored: the oldest turns are dropped at once
    {
        "context_length": 128,
        "prefill_chunk": 64,
        "history": [("user", f"question {n}") if n % 2 == 0 else ("assistant", f"answer {n}") for n in range(24)],
        "requests": [ask("and now?", options=DROP), ask("and then?", options=DROP)],
    },
    {**BIG, "history": [("user", "a"), ("assistant", "b")], "requests": [ask("c"), ask("d")]},
    {**BIG, "instructions": "s", "history": [("user", "<|im_end|>"), ("assistant", "")], "requests": [ask("c")]},
    # penalties see the whole prompt, seeds give the same again
    {
        **BIG,
        "requests": [
            ask("a", "the the the", options={"repetition_penalty": 10.0, "max_new_tokens": 6}),
            ask("a", "the the the", options={"temperature": 50.0, "seed": 3, "max_new_tokens": 6}),
            ask("a", "the the the", options={"temperature": 50.0, "seed": 3, "top_k": 5, "max_new_tokens": 6}),
        ],
    },
    # other templates
    {**BIG, "program": "trimming", "instructions": " s ", "requests": [ask(" a "), ask("b ")]},
    {**BIG, "program": "strict", "requests": [ask("a"), ask("b"), ask("c")]},
    {**BIG, "program": "bare", "requests": [ask("Hel", "lo world"), ask("the")]},
)


def session_options(options: dict[str, Any]) -> GenerateOptions:
    arguments = options_of(options)
    if "stop_strings" in arguments:
        arguments["stop_strings"] = tuple(arguments["stop_strings"])
    if "context_policy" in arguments:
        arguments["context_policy"] = ContextPolicy(arguments["context_policy"])
    return GenerateOptions(**arguments)


class TimedEngine(ScriptedEngine):
    """A clock that moves when the engine is called."""

    seconds = 0.0
    seconds_per_call = 0.0

    def forward(self, tokens: Any, position: int) -> Any:
        self.seconds += self.seconds_per_call
        return super().forward(tokens, position)


def run(case: dict[str, Any]) -> dict[str, Any]:
    engine = TimedEngine(case["context_length"], case["prefill_chunk"])
    engine.seconds_per_call = case.get("seconds_per_call", 0.0)
    memory = EngineMemory(engine)
    program = PROGRAMS[case.get("program", "chatml")]
    turns = tuple(Turn(role, text) for role, text in case.get("history", ()))
    history = ChatHistory(case.get("instructions"), turns)
    sessions = [
        ChatSession(memory, TOKENIZER, program, [END], history, lambda: engine.seconds)
        for _ in range(1 + max(request.get("session", 0) for request in case["requests"]))
    ]
    requests = []
    for request in case["requests"]:
        session = sessions[request.get("session", 0)]
        requests.append({**request, **answered(engine, memory, session, request)})
    histories = [[{"role": turn.role, "text": turn.content} for turn in session.history.turns] for session in sessions]
    content = {name: value for name, value in case.items() if name != "history"}
    return {
        "program": "chatml",
        **content,
        "history": [{"role": turn.role, "text": turn.content} for turn in turns],
        "requests": requests,
        "histories": histories,
    }


def answered(
    engine: TimedEngine, memory: EngineMemory, session: ChatSession, request: dict[str, Any]
) -> dict[str, Any]:
    options = session_options(request.get("options", {}))

    def stream() -> Iterator[TextChunk]:
        if request.get("raw"):
            ids = TOKENIZER.encode(request["prompt"], special=True)
            return generate(memory, TOKENIZER, ids, [END], options, lambda: engine.seconds)
        return session.stream_response(request["prompt"], options)

    engine.calls = []
    engine.answer = request["answer"]
    if request.get("raw"):
        engine.prompt = len(TOKENIZER.encode(request["prompt"], special=True))
    else:
        try:
            engine.prompt = len(session._fitting(Turn("user", request["prompt"]), options)[0])
        except ContextLengthError as error:
            assert not engine.calls
            return {"refused": "context", "mentions": [word for word in str(error).split() if word.isdigit()]}
    chunks: list[TextChunk] = []
    running = stream()
    for chunk in running:
        chunks.append(chunk)
        if len(chunks) == request.get("stop_after"):
            session.stop()
        if len(chunks) == request.get("leave_after"):
            running.close()  # type: ignore[attr-defined]
            break
    last = chunks[-1]
    result = {
        "prompt_tokens": engine.prompt,
        "calls": engine.calls,
        "chunks": [{"text": chunk.text, "ids": list(chunk.ids)} for chunk in chunks],
    }
    if last.stats is None:
        return result
    return {**result, "cached_tokens": last.stats.cached_tokens, "finish_reason": str(last.finish_reason)}


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    return {"session.json": {"cases": [run(case) for case in CASES], "stop_id": END}}
