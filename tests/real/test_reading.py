"""Our reading of a model held against transformers' own: right ones agree, broken ones are refused by what differs.

The models are saved by transformers' save_pretrained, and the GGUF file is written by gguf: nothing of ours made them.
"""

import gc
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from satchel.cache import Cache
from satchel.compile.assets import text_assets
from satchel.console import Console
from satchel.errors import PromptTemplateError, ReadingError
from satchel.report.reading import Reading
from satchel.source.directory import DirectoryCheckpoint
from satchel.source.gguf import byte_pairs
from satchel.source.gguf.checkpoint import GgufCheckpoint
from satchel.source.resolve import open_model
from satchel.tools import Tools
from satchel.validate import judge
from satchel.validate.readings import checked_reading
from satchel.workshop import Workshop
from tiny_gguf import write_gguf
from tiny_model import TINY_CONFIG, random_weights
from trained_tokenizers import changed, normalized, pre_tokenized, split, trained_on_bytes, trained_on_characters
from workplace import satchel

SIZES: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,  # so that attention looks somewhere
}
ARCHITECTURES: Mapping[str, dict[str, Any]] = {
    "llama": {"rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0}},
    "qwen2": {},
    "qwen3": {},
    "mistral": {"sliding_window": 16},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
}
CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
Read = Callable[[Any, str], NDArray[np.float32]]


def save(folder: Path, kind: str, tied: bool = True, text: bool = True, **settings: Any) -> Path:
    """A model with random weights. text: a tokenizer over bytes with a chat template, else one over characters
    without."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

    torch.manual_seed(3)
    definition, bos, eos = (
        (trained_on_bytes(), "<|start|>", "<|end|>") if text else (trained_on_characters(), "<s>", "</s>")
    )
    if kind == "qwen2":
        definition = changed(json.loads(definition), qwen2)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(definition),
        bos_token=bos,
        eos_token=eos,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML if text else None
    stop = tokenizer.convert_tokens_to_ids(eos)
    ids = {"bos_token_id": tokenizer.convert_tokens_to_ids(bos), "eos_token_id": stop, "pad_token_id": None}
    config = AutoConfig.for_model(
        kind, **{**SIZES, **ARCHITECTURES[kind], **ids, "tie_word_embeddings": tied, **settings}
    )
    model = AutoModelForCausalLM.from_config(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    model.generation_config = GenerationConfig(eos_token_id=[stop])
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def qwen2(definition: dict[str, Any]) -> None:
    """With the parts that transformers puts in their place, whatever the file of a Qwen 2 model says."""
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    normalized({"type": "NFC"})(definition)
    pre_tokenized(split(PRETOKENIZE_REGEX))(definition)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(Cache(tmp_path_factory.mktemp("reading")), Tools(), Console.quiet())


def read(model: Path, shop: Workshop, change: Callable[[Any], object] = lambda _: None) -> Reading:
    """The check of a build. change: what breaks the reading."""
    checkpoint = open_model(str(model), shop.cache, shop.tools)
    change(checkpoint)
    assets = text_assets(checkpoint, shop)
    return checked_reading(checkpoint, assets, checkpoint.tokenizer.stop_ids, shop)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "llama", "llama", tied=False)


def gguf(folder: Path, **fields: Any) -> Path:
    return write_gguf(folder / "tiny.gguf", TINY_CONFIG, sharp_weights(), fields=fields)


def sharp_weights() -> dict[str, NDArray[np.float32]]:
    """Large enough for attention to look somewhere; for the GGUF's vocabulary of 259 tokens."""
    config = {**TINY_CONFIG, "vocab_size": 259}
    return {name: array * np.float32(1 if "norm" in name else 5) for name, array in random_weights(config).items()}


# --- right readings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_architecture_is_read_as_transformers_reads_it(
    tmp_path: Path, shop: Workshop, kind: str, tied: bool
) -> None:
    found = read(save(tmp_path / "model", kind, tied, text=tied or kind == "qwen2"), shop)
    assert str(found.checked_by).startswith("transformers ")
    assert (found.prompts, found.stop_ids, found.not_compared) == (3, True, ())
    assert found.logits_relative is not None
    assert found.logits_relative < 1e-5


def test_a_gguf_file_is_read_as_transformers_reads_it_and_what_that_cannot_judge_is_said(
    tmp_path: Path, shop: Workshop
) -> None:
    found = read(gguf(tmp_path), shop)
    assert (found.prompts, found.stop_ids) == (2, True)
    assert found.logits_relative is not None
    assert found.logits_relative < 1e-5
    (said,) = found.not_compared
    assert "how numbers are cut" in said
    whole = read(gguf(tmp_path, **{"tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.eot_token_id": 258}), shop)
    assert (whole.prompts, whole.not_compared) == (3, ("whether '<|stop|>' (258) ends an answer too",))


def test_odd_folders_are_read_as_transformers_reads_them(llama: Path, tmp_path: Path, shop: Workshop) -> None:
    """A head that differs though config.json says tied; the only file beside the index of older parts; no
    architectures; special tokens in a file of their own."""
    tied = copied(llama, tmp_path / "tied", "config.json", tie_word_embeddings=True)
    assert open_model(str(tied), shop.cache, shop.tools).config["tie_word_embeddings"] is False
    assert read(tied, shop).logits_relative == pytest.approx(0, abs=1e-5)

    beside = shutil.copytree(llama, tmp_path / "beside")
    save_file({"model.norm.weight": np.ones(64, np.float32)}, beside / "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}}
    (beside / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read(beside, shop).logits_relative == pytest.approx(0, abs=1e-5)

    nameless = copied(llama, tmp_path / "nameless", "config.json", architectures=None)
    settings = json.loads((nameless / "tokenizer_config.json").read_text())
    named = {name: settings.pop(name) for name in ("bos_token", "eos_token")}
    (nameless / "tokenizer_config.json").write_text(json.dumps(settings))
    (nameless / "special_tokens_map.json").write_text(json.dumps(named))
    assert read(nameless, shop).prompts == 3


def test_it_is_compared_once(llama: Path, shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read(llama, shop)

    def refuse(*_: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(judge.OtherModel, "__init__", refuse)
    monkeypatch.setattr(judge.OtherTokenizer, "__init__", refuse)
    monkeypatch.setattr("satchel.validate.reference.Reference.__init__", refuse)
    assert read(llama, shop) == first


def test_never_two_models_are_in_memory(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PreTrainedModel

    from satchel.validate.reference import Reference

    def living() -> int:
        gc.collect()
        return sum(isinstance(one, PreTrainedModel) and hasattr(one, "lm_head") for one in gc.get_objects())

    before, seen = living(), []
    for kind in (Reference, judge.OtherModel):
        real = kind.__init__
        monkeypatch.setattr(
            kind, "__init__", lambda self, *given, real=real: (seen.append(living() - before), real(self, *given))[1]
        )
    read(llama, Workshop(Cache(tmp_path), Tools(), Console.quiet()))
    assert seen == [0, 0]
    assert living() == before


# --- broken readings ------------------------------------------------------------------------------------------------


def reading_as(read: Read) -> Callable[[DirectoryCheckpoint], None]:
    """A checkpoint whose tensors come from read(checkpoint, name)."""

    def change(checkpoint: DirectoryCheckpoint) -> None:
        vars(checkpoint)["read"] = lambda name: read(checkpoint, name)

    return change


def stored(checkpoint: Any, name: str) -> NDArray[np.float32]:
    found: NDArray[np.float32] = DirectoryCheckpoint.read(checkpoint, name)
    return found


def permuted(checkpoint: Any, name: str) -> NDArray[np.float32]:
    """q and k with the two halves of each head interleaved, as llama.cpp stores them."""
    array = stored(checkpoint, name)
    if "q_proj" not in name and "k_proj" not in name:
        return array
    halves = array.reshape(-1, 2, SIZES["head_dim"] // 2, array.shape[-1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)


def swapped(checkpoint: Any, name: str) -> NDArray[np.float32]:
    other = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    module = name.split(".")[-2]
    return stored(checkpoint, name.replace(module, other.get(module, module)))


def without_offset(checkpoint: Any, name: str) -> NDArray[np.float32]:
    """Norms as they are multiplied with (1 + w), which Gemma's class adds 1 to once more."""
    return stored(checkpoint, name) + np.float32("norm" in name)


def other_base(checkpoint: Any) -> None:
    theta = {"rope_type": "default", "rope_theta": 10_000.0}
    checkpoint.config = {**checkpoint.config, "rope_parameters": theta}


def other_pieces(checkpoint: Any) -> None:
    """Every letter by itself."""
    assets = checkpoint.tokenizer
    other = changed(json.loads(assets.tokenizer_json), pre_tokenized(split(r"\p{L}|[^\p{L}]")))
    checkpoint.tokenizer = replace(assets, tokenizer_json=other)


def stops_at(*ids: int) -> Callable[[Any], None]:
    def change(checkpoint: Any) -> None:
        checkpoint.tokenizer = replace(checkpoint.tokenizer, stop_ids=ids)

    return change


BROKEN: Mapping[str, tuple[str, Callable[[Any], object], tuple[str, ...]]] = {
    "q and k permuted": (
        "llama",
        reading_as(permuted),
        ("of the largest one", "other values in model.layers.0.self_attn.q_proj.weight", "k_proj.weight"),
    ),
    "rope base": ("llama", other_base, ("of the largest one", "rope_parameters is {", "10000.0", "500000.0")),
    "norm offset": ("gemma3_text", reading_as(without_offset), ("other values in model.layers.0", "norm.weight")),
    "gate and up": ("llama", reading_as(swapped), ("mlp.gate_proj.weight, model.layers.0.mlp.up_proj.weight",)),
    "pre-tokenizer": ("llama", other_pieces, ("tokenizes the conversation (", " here and ", " there", "token ")),
    "a stop id less": ("llama", stops_at(), ("transformers ends an answer at '<|end|>' (", "its stop ids are []")),
    "a stop id more": ("llama", stops_at(700, 701), ("Satchel would end an answer at", "(700)")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_reading_is_refused_by_what_differs(tmp_path: Path, llama: Path, shop: Workshop, name: str) -> None:
    kind, change, words = BROKEN[name]
    model = llama if kind == "llama" else save(tmp_path / "model", kind)
    with pytest.raises(ReadingError) as refused:
        read(model, Workshop(Cache(tmp_path / "cache"), Tools(), Console.quiet()), change)
    for word in words:
        assert word in str(refused.value)
    assert "report it with the model's name" in str(refused.value)


def test_a_broken_reading_of_a_gguf_file_is_refused(
    tmp_path: Path, shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(GgufCheckpoint, "_unpermute", lambda _self, _name, array: array)
        with pytest.raises(ReadingError, match=r"other values in model.layers.0.self_attn.q_proj.weight"):
            read(gguf(tmp_path), Workshop(Cache(tmp_path / "one"), Tools(), Console.quiet()))
    words = {"tokenizer.ggml.merges": ["a b", "' T"], "tokenizer.ggml.tokens": gguf_tokens("'T")}
    words["tokenizer.ggml.token_type"] = [1] * 258 + [3, 3]
    words["tokenizer.ggml.eos_token_id"] = 258
    other = byte_pairs.BytePairs(lambda: byte_pairs._pattern(r"\p{N}"))
    monkeypatch.setitem(byte_pairs.PRE_TOKENIZERS, "smollm", other)  # type: ignore[arg-type]
    arrays = random_weights({**TINY_CONFIG, "vocab_size": 260})
    model = write_gguf(tmp_path / "other.gguf", TINY_CONFIG, arrays, fields=words)
    with pytest.raises(ReadingError, match=r"token \d+ is \"'T\" \(\d+\) here and \"'\" \(\d+\) there"):
        read(model, Workshop(Cache(tmp_path / "two"), Tools(), Console.quiet()))


def gguf_tokens(*further: str) -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*sorted(ByteLevel.alphabet()), "ab", *further, "<|end|>", "<|stop|>"]


def test_a_folder_that_transformers_cannot_load_is_refused(llama: Path, tmp_path: Path) -> None:
    broken = copied(llama, tmp_path / "broken", "tokenizer_config.json", eos_token={"content": "<|end|>"})
    with pytest.raises(ReadingError, match=r"transformers can't load the tokenizer \(TypeError: .*eos_token"):
        read(broken, Workshop(Cache(tmp_path / "cache"), Tools(), Console.quiet()))


def test_a_template_that_only_one_finds_is_a_difference(llama: Path, tmp_path: Path, shop: Workshop) -> None:
    named = copied(llama, tmp_path / "named", "tokenizer_config.json", chat_template=[{"name": "t", "template": "x"}])
    (named / "chat_template.jinja").unlink()
    with pytest.raises(PromptTemplateError, match="chat templates t, and none is named default"):
        read(named, shop)

    def lose(checkpoint: Any) -> None:
        checkpoint.tokenizer = replace(checkpoint.tokenizer, chat_template=None)

    with pytest.raises(ReadingError, match="transformers finds a chat template in this model, and Satchel finds none"):
        read(llama, shop, lose)

    def invent(checkpoint: Any) -> None:
        checkpoint.tokenizer = replace(checkpoint.tokenizer, chat_template=CHATML)

    none = shutil.copytree(llama, tmp_path / "none")
    (none / "chat_template.jinja").unlink()
    with pytest.raises(ReadingError, match=r"transformers can't write the conversation \(system: .*, and Satchel does"):
        read(none, shop, invent)


def test_the_date_is_left_to_nobody(llama: Path, tmp_path: Path, shop: Workshop) -> None:
    model = shutil.copytree(llama, tmp_path / "dated")
    day = "{% if strftime_now is defined %}{{ strftime_now('%d %B') }}{% else %}one day{% endif %}"
    (model / "chat_template.jinja").write_text(f"<|start|>{day}<|end|>\n" + CHATML)
    assert read(model, shop).prompts == 3


def test_no_class_says_what_ends_an_answer_where_no_file_does(llama: Path, tmp_path: Path, shop: Workshop) -> None:
    model = copied(llama, tmp_path / "endless", "config.json", eos_token_id=None)
    (model / "generation_config.json").unlink()
    assert read(model, shop).stop_ids


def copied(model: Path, to: Path, file: str, **changes: Any) -> Path:
    """The model with entries of a JSON file changed, or taken out where they are None."""
    shutil.copytree(model, to)
    content = {**json.loads((to / file).read_text()), **changes}
    (to / file).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return to


def test_the_command_says_it_with_exit_code_4_before_any_slow_work(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SATCHEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        DirectoryCheckpoint, "read", lambda self, name, real=DirectoryCheckpoint.read: -real(self, name)
    )
    build = ("build", llama, "--backend", "coreml", "--context", 96, "--out", tmp_path / "out")
    code, _, said = satchel(*build)
    assert code == 4
    assert "Satchel reads the model unlike transformers" in said
    assert not {"quantized", "skeleton", "reading"} & {path.name for path in (tmp_path / "cache").iterdir()}
    assert not (tmp_path / "out" / "bundle").exists()
