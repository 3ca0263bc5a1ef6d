"""Models from the hub, through the real client, against a hub on loopback that can misbehave."""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from satchel.errors import CorruptModelError, HubError, ModelNotFoundError, UnsafeModelError, UnsupportedModelError
from satchel.source.checkpoint import Checkpoint
from satchel.source.hub import HubId, open_hub, parse_hub_id

MakeDirectory = Callable[..., Path]
COMMIT = "c" * 40
WEIGHTS = "model.safetensors"


@dataclass
class Hub:
    """One repository, `org/tiny`, and how the server should treat it."""

    files: dict[str, bytes]
    refuse: tuple[int, str] | None = None  # status and X-Error-Code of every answer
    cut_after: int | None = None  # bytes after which the first download of the weights breaks off
    corrupt: str | None = None  # a file whose bytes are not what the listing promises
    ranges: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    endpoint: str = ""

    def listing(self) -> dict[str, Any]:
        return {
            "id": "org/tiny",
            "sha": COMMIT,
            "siblings": [{"rfilename": name, **self.entry(name)} for name in sorted(self.files)],
        }

    def entry(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()
        if not name.endswith(".safetensors"):
            return {"size": len(data), "blobId": blob}
        lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return {"size": len(data), "blobId": blob, "lfs": lfs}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if self.hub.refuse is not None:
            status, code = self.hub.refuse
            self.answer(status, b"{}", {"X-Error-Code": code})
        elif match := re.fullmatch(r"/api/models/org/tiny(/revision/(.+))?", path):
            known = match[2] in (None, "main", "v1", COMMIT)
            listing = json.dumps(self.hub.listing()).encode()
            self.answer(200, listing) if known else self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif (match := re.fullmatch(rf"/org/tiny/resolve/{COMMIT}/(.+)", path)) and match[1] in self.hub.files:
            self.send_file(match[1])
        else:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def send_file(self, name: str) -> None:
        data = self.hub.files[name]
        entry = self.hub.entry(name)
        etag = entry["lfs"]["sha256"] if "lfs" in entry else entry["blobId"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if self.command == "GET":
            self.hub.downloads.append(name)
        if name == self.hub.corrupt:
            data = bytes(len(data))
        if requested := self.headers.get("Range"):
            self.hub.ranges.append(requested)
            start = int(requested.removeprefix("bytes=").rstrip("-").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.answer(206, data[start:], headers)
        elif name == WEIGHTS and self.hub.cut_after is not None and self.command == "GET":
            self.answer(200, data, headers, only=self.hub.cut_after)
            self.hub.cut_after = None
        else:
            self.answer(200, data, headers)

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, only: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:only])


@pytest.fixture
def hub(make_directory: MakeDirectory) -> Iterator[Hub]:
    folder = make_directory()
    hub = Hub({path.name: path.read_bytes() for path in folder.iterdir()})
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_tiny(hub: Hub, tmp_path: Path) -> Callable[..., Checkpoint]:
    """open_tiny(revision=None): `org/tiny` from the loopback hub, in a cache of this test's own."""

    def open_it(revision: str | None = None, repo: str = "org/tiny") -> Checkpoint:
        return open_hub(HubId(repo, revision), endpoint=hub.endpoint, cache_dir=tmp_path / "hub")

    return open_it


def test_hub_ids() -> None:
    assert parse_hub_id("org/name") == HubId("org/name", None)
    assert parse_hub_id("HuggingFaceTB/SmolLM2-135M@refs/pr/3") == HubId("HuggingFaceTB/SmolLM2-135M", "refs/pr/3")
    for other in ("name", "/org/name", "./org/name", "a/b/c", "org/name@", "org/na me"):
        assert parse_hub_id(other) is None


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_model_is_downloaded_once(
    hub: Hub,
    open_tiny: Callable[..., Checkpoint],
    tiny_arrays: dict[str, NDArray[np.float32]],
    revision: str | None,
) -> None:
    hub.files["pytorch_model.bin"] = b"never fetched"
    checkpoint = open_tiny(revision)
    for name, array in tiny_arrays.items():
        np.testing.assert_array_equal(checkpoint.read(name), array)
    assert checkpoint.model_id == "tiny"
    assert (checkpoint.source.kind, checkpoint.source.reference) == ("hub", "org/tiny")
    assert checkpoint.source.revision == COMMIT
    assert sorted(hub.downloads) == sorted(name for name in hub.files if not name.endswith(".bin"))
    hub.downloads.clear()
    assert open_tiny(revision).source == checkpoint.source
    assert hub.downloads == []


def test_shards_come_by_their_index(
    hub: Hub, open_tiny: Callable[..., Checkpoint], make_directory: MakeDirectory
) -> None:
    folder = make_directory("sharded", shards=2)
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.files["other.safetensors"] = b"not part of the model"
    assert np.isfinite(open_tiny().read("model.norm.weight")).all()
    assert "other.safetensors" not in hub.downloads


def test_a_download_that_breaks_off_is_resumed(
    hub: Hub, open_tiny: Callable[..., Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)  # it keeps whole chunks
    hub.cut_after = 30_000
    checkpoint = open_tiny()
    assert np.isfinite(checkpoint.read("model.norm.weight")).all()
    assert hub.ranges == ["bytes=30000-"]


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_wrong_bytes_are_noticed_and_fetched_again(hub: Hub, open_tiny: Callable[..., Checkpoint], name: str) -> None:
    hub.corrupt = name
    with pytest.raises(CorruptModelError, match=f"{name} of org/tiny has the hash .* the hub lists"):
        open_tiny()
    hub.corrupt = None
    assert np.isfinite(open_tiny().read("model.norm.weight")).all()


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        ((401, ""), "hf auth login"),
        ((401, "RepoNotFound"), "no model org/tiny, or it is private.*HF_TOKEN"),
        ((403, "GatedRepo"), "org/tiny is gated: accept its licence"),
        ((404, "RepoNotFound"), "the hub has no model org/tiny"),
        ((500, ""), r"out of order \(HTTP 500.*Try again later.*Nothing of org/tiny is in the hub's cache"),
    ],
)
def test_each_refusal_says_what_to_do(
    hub: Hub, open_tiny: Callable[..., Checkpoint], refuse: tuple[int, str], message: str
) -> None:
    hub.refuse = refuse
    with pytest.raises(HubError, match=message):
        open_tiny()


def test_an_unknown_revision(open_tiny: Callable[..., Checkpoint]) -> None:
    with pytest.raises(HubError, match="org/tiny has no revision 'v9'"):
        open_tiny("v9")


def test_offline_the_hubs_cache_is_used(hub: Hub, open_tiny: Callable[..., Checkpoint]) -> None:
    hub.endpoint, online = "http://127.0.0.1:9", hub.endpoint  # the discard port: nobody listens
    with pytest.raises(HubError, match=r"can't be reached for org/tiny.*online.*Nothing of org/tiny"):
        open_tiny()
    hub.endpoint, offline = online, hub.endpoint
    source = open_tiny("v1").source
    hub.endpoint = offline
    assert open_tiny(COMMIT).source == source


def test_a_model_that_cannot_be_used_is_refused_before_its_weights(
    hub: Hub, open_tiny: Callable[..., Checkpoint]
) -> None:
    config = hub.files.pop("config.json")
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        open_tiny()
    hub.files["config.json"] = config.replace(b"LlamaForCausalLM", b"MambaForCausalLM")
    with pytest.raises(UnsupportedModelError, match="MambaForCausalLM"):
        open_tiny()
    hub.files["config.json"] = config
    hub.files["pytorch_model.bin"] = hub.files.pop(WEIGHTS)
    with pytest.raises(UnsafeModelError, match="pickle"):
        open_tiny()
    assert set(hub.downloads) <= {"config.json"}
