"""SentencePiece's BPE from a GGUF file: whatever could give other ids than its own rules is refused."""

from typing import Any

import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer

from satchel.errors import TokenizerError
from satchel.source.gguf.tokenizer import tokenizer_assets

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
BLANK = "\u2581"


def metadata(pieces: dict[str, tuple[float, int]] | None = None, **changes: Any) -> dict[str, Any]:
    """<unk>, <s>, </s>, the bytes, a few letters and words; None removes a key."""
    table: dict[str, tuple[float, int]] = {"<unk>": (0.0, UNKNOWN), "<s>": (0.0, CONTROL), "</s>": (0.0, CONTROL)}
    table |= {f"<0x{byte:02X}>": (0.0, BYTE) for byte in range(256)}
    table |= {"th": (-1.0, NORMAL), "the": (-2.0, NORMAL), f"{BLANK}the": (-3.0, NORMAL)}
    table |= dict.fromkeys(f"{BLANK}the", (-100.0, NORMAL))
    table |= pieces or {}
    fields = {
        "model": "llama",
        "tokens": list(table),
        "scores": [score for score, _ in table.values()],
        "token_type": [kind for _, kind in table.values()],
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in fields.items() if value is not None}


def encode(fields: dict[str, Any], text: str) -> list[str]:
    tokenizer = HuggingFaceTokenizer.from_str(tokenizer_assets(fields).tokenizer_json)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    return list(tokenizer.encode(text).tokens)


def test_words_bytes_and_what_opens_a_text() -> None:
    assert encode(metadata(), "the the") == ["<s>", f"{BLANK}the", f"{BLANK}the"]
    assert encode(metadata(add_space_prefix=False), "theé") == ["<s>", "the", "<0xC3>", "<0xA9>"]
    assets = tokenizer_assets(metadata())
    assert (assets.bos_id, assets.eos_id, assets.stop_ids, assets.bos_token) == (1, 2, (2,), "<s>")


def test_a_users_tokens_of_blanks_are_found_as_a_whole() -> None:
    fields = metadata({"  ": (-1000.0, USER_DEFINED), "\n\n": (-1000.0, USER_DEFINED)}, add_space_prefix=False)
    assert encode(fields, "the   the\n\n") == ["<s>", "the", BLANK * 2, f"{BLANK}the", "\n\n"]


def test_runs_of_blanks_may_have_one_score() -> None:
    runs = {BLANK * length: (-1e9, NORMAL) for length in (2, 3, 4)}
    assert encode(metadata(runs), "      the") == ["<s>", BLANK * 4, BLANK * 2, f"{BLANK}the"]
    for pieces in (
        {BLANK * length: (-2.5, NORMAL) for length in (2, 3)},  # not the last of all
        {BLANK * length: (-1e9, NORMAL) for length in (2, 40)} | {BLANK * 38: (-2e9, NORMAL)},
        {BLANK * length: (-1e9, NORMAL) for length in range(2, 40)},
    ):
        with pytest.raises(TokenizerError, match="the same score"):
            tokenizer_assets(metadata(pieces))


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "equal scores": ({"pieces": {"ht": (-1.0, NORMAL)}}, "gives 'th' and 'ht' the same score"),
    "letter of no token": ({"pieces": {"tx": (-9.0, NORMAL)}}, "its letter 'x' is not"),
    "unused, but made": ({"pieces": {"ee": (-9.0, UNUSED)}}, "is unused and made of others"),
    "a byte is missing": ({"pieces": {"<0x41>": (0.0, NORMAL)}}, "no token for the byte <0x41>"),
    "no scores": ({"scores": None}, "tokenizer.ggml.scores"),
    "scores too few": ({"scores": [0.0]}, "tokenizer.ggml.scores"),
    "unknown token": ({"unknown_token_id": -1}, "unknown_token_id is -1"),
    "blanks taken away": ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
    "end added": ({"add_eos_token": True}, "add_eos_token"),
    "blanks of the user": ({"pieces": {"  ": (0.0, USER_DEFINED)}}, "puts a blank before texts"),
    "a very long token": ({"pieces": {"t" * 300: (0.0, NORMAL)}}, "300 letters"),
    "another type": ({"pieces": {"x": (0.0, 9)}}, "token type 9"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(case: str) -> None:
    changes, named = REFUSALS[case]
    with pytest.raises(TokenizerError) as caught:
        tokenizer_assets(metadata(**changes))
    assert named in str(caught.value)
