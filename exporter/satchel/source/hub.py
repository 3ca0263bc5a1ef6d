"""A model on the Hugging Face hub: `organisation/name[@revision]`, fetched by the hub's own client into its own cache.

The client resumes a download that breaks off and knows tokens (HF_TOKEN, `hf auth login`), HF_ENDPOINT and
HF_HUB_OFFLINE, but checks only sizes. So every file is hashed here against what the hub lists for the commit.
Config and file names are looked at first: a model that can't be used is refused before its weights are downloaded.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from satchel.errors import CorruptModelError, HubError, ModelNotFoundError, SatchelError
from satchel.hashing import file_sha256
from satchel.source.directory import SMALL_FILES, DirectoryCheckpoint, open_directory
from satchel.source.json_files import read_json
from satchel.source.support import checked_config
from satchel.source.weight_files import INDEX, WEIGHTS, refuse_pickles

_HUB_ID = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class HubId:
    """A repository and a branch, tag or commit of it (None: its main branch)."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class _Listing:
    """One commit's files. `hashes`: name -> SHA-256, or git's SHA-1 of the blob for files that git itself stores."""

    commit: str
    hashes: Mapping[str, str]


def parse_hub_id(model: str) -> HubId | None:
    """`organisation/name` or `organisation/name@revision`; None if it is nothing like that."""
    match = _HUB_ID.fullmatch(model)
    return HubId(match["repo"], match["revision"]) if match else None


def open_hub(hub_id: HubId, *, endpoint: str | None = None, cache_dir: Path | None = None) -> DirectoryCheckpoint:
    """Download what is missing of the model, check every hash, and open it. Without the hub, what its cache has.

    `endpoint` and `cache_dir` default to the hub client's own settings. Raises HubError (unreachable, refused, no such
    model or revision), CorruptModelError (a hash differs) and whatever `open_directory` raises.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id
    from huggingface_hub.utils.tqdm import disable_progress_bars

    try:
        validate_repo_id(hub_id.repo)
    except HFValidationError as invalid:
        raise ModelNotFoundError(f"No model has this name, neither here nor on the hub. {invalid}") from invalid
    disable_progress_bars()  # the console shows progress, and on a pipe nothing should
    api = HfApi(endpoint=endpoint)

    def list_files() -> _Listing:
        info = api.model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True)
        files = info.siblings or []
        hashes = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id or "" for file in files}
        return _Listing(str(info.sha), hashes)

    try:
        listing = _ask_hub(hub_id, list_files)
    except _HubUnreachableError as unreachable:
        folder = _cached(
            lambda: snapshot_download(hub_id.repo, revision=hub_id.revision, cache_dir=cache_dir, local_files_only=True)
        )
        if folder is None:
            raise HubError(f"{unreachable} Nothing of {hub_id} is in the hub's cache either.") from unreachable
        return open_directory(folder, kind="hub", reference=hub_id.repo, revision=folder.name)

    def download(name: str) -> Path:
        path = Path(
            _ask_hub(
                hub_id,
                lambda: hf_hub_download(
                    hub_id.repo, name, revision=listing.commit, endpoint=endpoint, cache_dir=cache_dir
                ),
            )
        )
        _require_hash(hub_id, name, path, listing.hashes[name])
        return path

    if "config.json" not in listing.hashes:
        raise ModelNotFoundError(f"{hub_id} has no config.json, so it holds no model that transformers can load.")
    refuse_pickles(str(hub_id), listing.hashes)
    config = download("config.json")
    checked_config(str(hub_id), read_json(config))
    for name in _wanted(listing, download):
        download(name)
    return open_directory(config.parent, kind="hub", reference=hub_id.repo, revision=listing.commit)


def _wanted(listing: _Listing, download: Callable[[str], Path]) -> list[str]:
    """The files that make up the model: small ones first, so that a missing one is noticed before the weights."""
    small = [name for name in (*SMALL_FILES, "README.md") if name in listing.hashes]
    if WEIGHTS in listing.hashes:
        return [*small, WEIGHTS]
    if INDEX not in listing.hashes:
        return [*small, *(name for name in listing.hashes if "/" not in name and name.endswith(".safetensors"))]
    weight_map = read_json(download(INDEX)).get("weight_map", {})
    return [*small, *sorted(set(weight_map.values()) & listing.hashes.keys())]


class _HubUnreachableError(HubError):
    """No answer from the hub: offline, switched off, or out of order. The cache may still have the model."""


def _ask_hub(hub_id: HubId, call: Callable[[], _Result]) -> _Result:
    """The call's result; the client's exceptions become a HubError that says what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    log_in = "log in with `hf auth login` or set HF_TOKEN"
    try:
        return call()
    except GatedRepoError as refusal:
        raise HubError(
            f"{hub_id} is gated: accept its licence on the hub's page of the model, then {log_in}."
        ) from refusal
    except RevisionNotFoundError as refusal:
        raise HubError(f"{hub_id.repo} has no revision {hub_id.revision!r} on the hub.") from refusal
    except RepositoryNotFoundError as refusal:
        raise HubError(
            f"there is no folder {hub_id} here, and the hub has no model {hub_id.repo}, or it is private. "
            f"Check the name; if the model is private, {log_in}."
        ) from refusal
    except OfflineModeIsEnabled as offline:
        raise _HubUnreachableError("the hub is switched off by HF_HUB_OFFLINE.") from offline
    except HfHubHTTPError as refusal:
        status = refusal.response.status_code
        if status in (401, 403):
            raise HubError(f"the hub refused access to {hub_id} (HTTP {status}); {log_in}.") from refusal
        raise _HubUnreachableError(
            f"the hub is out of order (HTTP {status} for {hub_id}). Try again later."
        ) from refusal
    except SatchelError:
        raise
    except Exception as failure:  # whatever the client's transport raises: its library is not ours to name
        raise _HubUnreachableError(
            f"the hub can't be reached for {hub_id}: {failure}. Is this computer online? Files that are already "
            "complete are kept for the next run."
        ) from failure


def _cached(find: Callable[[], str]) -> Path | None:
    """The folder of an earlier download, or None."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(find())
    except LocalEntryNotFoundError:
        return None


def _require_hash(hub_id: HubId, name: str, path: Path, expected: str) -> None:
    """Raise CorruptModelError, and forget the file, if its content is not what the hub lists."""
    actual = file_sha256(path) if len(expected) == 64 else _git_blob_hash(path)
    if actual != expected:
        path.resolve().unlink()
        raise CorruptModelError(
            f"{name} of {hub_id} has the hash {actual}, but the hub lists {expected}. The download was damaged and has "
            "been removed; try again."
        )


def _git_blob_hash(path: Path) -> str:
    """What git calls the file: SHA-1 over "blob <size>\\0" and its bytes."""
    data = path.read_bytes()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
