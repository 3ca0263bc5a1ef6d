"""Stop strings, whole, in pieces and almost: chunks of text, and the number of tokens that were generated."""

from typing import Any

from cases.scripted import END, START, TOKENIZER, ScriptedEngine, ids_of
from satchel.reference.session import GenerateOptions, generate
from satchel.reference.stop import StopStrings

PIECES: tuple[tuple[list[str], list[str]], ...] = (
    # stop strings, pieces of text
    ([], ["a", "b"]),
    (["b"], ["a", "b", "c"]),
    (["b"], ["abc"]),
    (["b"], ["bbb"]),
    (["bc"], ["a", "b", "c"]),
    (["bc"], ["ab", "d"]),
    (["bc"], ["ab"]),
    (["aab"], ["a", "a", "a", "b"]),
    (["aab"], ["aaaaaaab"]),
    (["abab!"], ["ab", "ab", "ab", "!"]),
    (["\n\n"], ["one\n", "two\n", "\nthree"]),
    (["\n\n"], ["one\n", " \n"]),
    (["END", "STOP"], ["the EN", "ST", "OP"]),
    (["abcX", "bc"], ["a", "b", "c", "X"]),
    (["abcX", "bc"], ["abcX"]),
    (["bc", "abc"], ["abc"]),
    (["c", "bc", "abc"], ["ab", "c"]),
    (["longer than the text"], ["long", "er"]),
    (["x", "x"], ["ax"]),
    (["\U0001f600"], ["a\U0001f600b"]),
    (["\U0001f601"], ["a\U0001f600b"]),
    (["\U0001f600\U0001f601"], ["a\U0001f600", "\U0001f600", "\U0001f601"]),
    (["e\u0301"], ["e", "\u0301"]),
    (["\u00e9"], ["e\u0301"]),
    (["\u0301"], ["ae", "\u0301b"]),
    (["<|im_end|>"], ["a <|im", "_end", "|> b"]),
    (["a" * 256], ["a" * 255, "b", "a" * 300]),
    ([" "], ["a", " ", "b"]),
    (["User:"], ["Hi\nUs", "er", " :", "User", ":"]),
    (["\ufffd"], ["a\ufffd"]),
)

ANSWERS: tuple[tuple[str, list[str], int], ...] = (
    # answer, stop strings, max_new_tokens
    ("Hello world it's", ["world"], 256),
    ("Hello world it's", ["lo wor"], 256),
    ("Hello world it's", ["H"], 256),
    ("Hello world it's", ["it'z"], 256),
    ("Hello world it's", ["s and more"], 256),
    ("Hello world it's", ["ld it"], 4),
    ("Hello world it's", ["ld it"], 5),
    ("\u4f60\u597d\U0001f600", ["\u597d"], 256),
    ("\u4f60\u597d\U0001f600", ["\U0001f600"], 256),
    ("\u4f60\u597d\U0001f600", ["\U0001f600!"], 256),
    ("aaaaaaaab", ["ab"], 256),
    ("a\n\nb", ["\n\n"], 256),
)


def piece_cases() -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for strings, pieces in PIECES:
        stop = StopStrings(strings)
        shown = [stop.push(piece) for piece in pieces]
        cases.append({"stop_strings": strings, "pieces": pieces, "shown": [*shown, stop.finish()], "found": stop.found})
    return cases


def generate_cases() -> list[dict[str, Any]]:
    cases = []
    answers = [(ids_of(text), strings, most) for text, strings, most in ANSWERS]
    hello = ids_of("Hello")
    answers += [
        ([*hello[:2], START, *hello[2:]], ["Hello"], 256),  # a special token between shows nothing
        (ids_of("\u20ac")[:2], ["\ufffd"], 256),  # held back until the end, where it becomes the stop string
    ]
    for answer, strings, max_new_tokens in answers:
        engine = ScriptedEngine(64, 8)
        engine.prompt, engine.answer = 3, [*answer, END]
        options = GenerateOptions(max_new_tokens=max_new_tokens, stop_strings=tuple(strings))
        chunks = list(generate(engine, TOKENIZER, [7] * 3, [END], options))
        cases.append(
            {
                "prompt": 3,
                "context_length": 64,
                "prefill_chunk": 8,
                "options": {"max_new_tokens": max_new_tokens, "stop_strings": strings},
                "answer": [*answer, END],
                "calls": engine.calls,
                "chunks": [{"text": chunk.text, "ids": chunk.ids} for chunk in chunks],
                "finish_reason": chunks[-1].finish_reason,
            }
        )
    return cases


def contents() -> dict[str, dict[str, Any]]:
    """File name -> its content."""
    return {"stop_strings.json": {"pieces": piece_cases(), "generations": generate_cases(), "stop_id": END}}
