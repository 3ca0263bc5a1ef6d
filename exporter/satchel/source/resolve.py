"""MODEL, as a person writes it, to a Checkpoint: an alias, a Hugging Face directory, a hub id or a GGUF file."""

from pathlib import Path

from satchel.cache import Cache
from satchel.errors import ModelNotFoundError
from satchel.source.alias import Alias, aliases
from satchel.source.checkpoint import Checkpoint
from satchel.source.directory import open_directory
from satchel.source.fetch import fetch
from satchel.source.gguf.checkpoint import open_gguf
from satchel.source.hub import open_hub, parse_hub_id
from satchel.source.places import hides_a_built_in, is_folder, is_gguf, model_folder, refuse_path
from satchel.source.support import verify
from satchel.source.values import shown
from satchel.tools import Tools


def open_model(model: str, cache: Cache, tools: Tools) -> Checkpoint:
    """The verified Checkpoint that MODEL names. Whatever can be refused without long work is refused here (exit 4)."""
    if model in aliases() and not hides_a_built_in(model):
        return verify(_open_alias(aliases()[model], cache, tools))
    if is_gguf(model):
        return verify(open_gguf(Path(model)))
    if is_folder(model):
        found = model_folder(Path(model))
        return verify(open_directory(found.folder, reference=found.reference, revision=found.revision))
    refuse_path(model)
    if (hub_id := parse_hub_id(model)) is not None:
        return verify(open_hub(hub_id))
    raise ModelNotFoundError(_what_model_can_be(model))


def _open_alias(alias: Alias, cache: Cache, tools: Tools) -> Checkpoint:
    path = fetch(alias, cache, tools)
    return open_gguf(path, model_id=alias.name, reference=alias.name, revision=alias.version, license_id=alias.license)


def _what_model_can_be(model: str) -> str:
    return (
        f"There is no model {shown(model)}. A model is a built-in name ({', '.join(aliases())}), a Hugging Face "
        "directory, a hub id (organisation/name or organisation/name@revision) or a .gguf file."
    )
