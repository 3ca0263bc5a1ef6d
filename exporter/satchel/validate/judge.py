"""transformers' own reading of a source: a folder as `from_pretrained` takes it, or a GGUF file by its own conversion.

Nothing of Satchel's reading goes in: neither config nor names nor ids. Each class loads when it is made, and what it
holds goes with it, so that never two models are in memory.
"""

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from satchel.quiet import quiet
from satchel.reference.prompt import Turn

# Set before anything else in a template, it is as if nobody told the date: a prompt program can't tell it either.
_WITHOUT_CLOCK = "{% set strftime_now = nobody_tells_the_date %}"
_CONFIGS = ("generation_config.json", "config.json")
# What a config says of itself, of its files, of training and of how it was loaded, and not of what is computed.
_WITHOUT_EFFECT = {
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bos_token_id",
    "dtype",
    "eos_token_id",
    "initializer_range",
    "pad_token_id",
    "pretraining_tp",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
    "use_cache",
}


def name() -> str:
    """The judge, as a report names it."""
    import transformers

    return f"transformers {transformers.__version__}"


class OtherTokenizer:
    """transformers' tokenizer of a source. Raises whatever transformers raises."""

    def __init__(self, place: Path) -> None:
        with _opened(place) as (folder, options):
            from transformers import AutoTokenizer, PreTrainedTokenizerFast

            # Which class it is follows from config.json. A GGUF file gives this one, and asking would parse it twice.
            kind: Any = AutoTokenizer if place.is_dir() else PreTrainedTokenizerFast
            self._tokenizer: Any = kind.from_pretrained(folder, **options)

    @property
    def kind(self) -> str:
        """The class, which may put parts of its own in place of what tokenizer.json says."""
        return type(self._tokenizer).__name__

    @property
    def eos_id(self) -> int | None:
        found = self._tokenizer.eos_token_id
        return None if found is None else int(found)

    @property
    def has_template(self) -> bool:
        return bool(self._tokenizer.chat_template)

    @property
    def writes_dates(self) -> bool:
        return "strftime_now" in str(self._tokenizer.chat_template)

    def chat(self, turns: Sequence[Turn], clock: bool = True) -> list[int]:
        """The prompt's ids, with the generation prompt. clock: whether the template is told the date."""
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        template = None if clock else _WITHOUT_CLOCK + str(self._tokenizer.chat_template)
        ids = self._tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return [int(token) for token in ids]

    def text(self, text: str) -> list[int]:
        """A raw prompt's ids, with what opens every text."""
        return [int(token) for token in self._tokenizer(text)["input_ids"]]

    def piece(self, token: int) -> str:
        """The token as the vocabulary writes it."""
        return str(self._tokenizer.convert_ids_to_tokens(token))


class OtherModel:
    """`AutoModelForCausalLM` of a source in float32 on the CPU. Raises whatever transformers raises.

    config: settings of config.json instead of what transformers reads; None almost always.
    missing: names of the parameters that transformers found no weight for, and drew at random.
    """

    def __init__(self, place: Path, config: Mapping[str, Any] | None = None) -> None:
        with _opened(place) as (folder, options):
            import torch
            from transformers import AutoConfig, AutoModelForCausalLM

            if config is not None:
                values = {key: value for key, value in config.items() if key not in _WITHOUT_EFFECT}
                options = {**options, "config": AutoConfig.for_model(values.pop("model_type"), **values)}

            if place.is_dir():
                options = {**options, "use_safetensors": True}  # never a pickle
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **options
            )
        self._model, info = loaded
        self.missing: Sequence[str] = sorted(info["missing_keys"])
        self._says_what_ends = not place.is_dir() or any(map(_says_what_ends, (place / file for file in _CONFIGS)))
        self._model.eval()

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """What ends an answer: of the generation config, else of the config; none where no file says it, since a class
        has a number of its own for that."""
        for config in (self._model.generation_config, self._model.config):
            found = getattr(config, "eos_token_id", None)
            if found is not None and self._says_what_ends:
                return tuple(found) if isinstance(found, list | tuple) else (int(found),)
        return ()

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """ids [n] -> logits float32 [n, vocab]."""
        import torch

        with torch.no_grad():
            output = self._model(input_ids=torch.from_numpy(ids).reshape(1, -1), use_cache=False)
        result: NDArray[np.float32] = output.logits[0].numpy()
        return result

    def settings_unlike(self, config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Settings of the config with another value there: name -> (in `config`, here)."""
        from transformers import AutoConfig

        values = {key: value for key, value in config.items() if key not in _WITHOUT_EFFECT}
        theirs = self._model.config.to_dict()
        ours = AutoConfig.for_model(values.pop("model_type"), **values).to_dict()
        names = sorted((theirs.keys() | ours.keys()) - _WITHOUT_EFFECT)
        return {
            name: (ours.get(name), theirs.get(name)) for name in names if not _equal(ours.get(name), theirs.get(name))
        }

    def tensors_unlike(self, read: Callable[[str], NDArray[np.float32]]) -> list[str]:
        """Names of the parameters that have another value in `read`, or none. One tensor of it is read at a time."""
        found = []
        for parameter, value in self._model.named_parameters():
            try:
                same = np.array_equal(read(parameter), value.detach().numpy())
            except Exception:  # whatever keeps it from being read: it is not the same
                same = False
            if not same:
                found.append(parameter)
        return found


def _says_what_ends(config: Path) -> bool:
    return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("eos_token_id") is not None


def _equal(ours: Any, theirs: Any) -> bool:
    """Whether two settings are the same float32 numbers: GGUF keeps no more of them."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.float32(ours) == np.float32(theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_equal(ours[key], theirs[key]) for key in ours)
    return bool(ours == theirs)


@contextmanager
def _opened(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What `from_pretrained` is called with. A GGUF file lies alone: files beside it would be read with it."""
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    with tempfile.TemporaryDirectory(prefix="satchel-reading-") as alone, quiet(), redirect_stderr(io.StringIO()):
        if place.is_dir():
            yield place, options
        else:
            (Path(alone) / "model.gguf").symlink_to(place.resolve())
            yield Path(alone), {**options, "gguf_file": "model.gguf"}
