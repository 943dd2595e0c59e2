"""Weights from web addresses: continued, of the right size, through mirrors and proxies, or said why not."""

from __future__ import annotations

import io
import os
import socket
import tracemalloc
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from model_graphs import card_fields, sha256
from web_files import Web, serving

from frpipe.core.errors import ModelError, ModelMismatch, StorageError
from frpipe.models import fetch as fetching
from frpipe.models.card import Card
from frpipe.models.fetch import fetch

WEIGHTS = bytes(range(256)) * 5000
TERMS = {"name": "ask-first", "text": "for drawing only (https://example.org/terms)"}


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "FRPIPE_MODEL_MIRROR":
            monkeypatch.delenv(name)
    with serving(Web({"/tiny.onnx": WEIGHTS})) as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def card_at(address: str, data: bytes = WEIGHTS, **source: Any) -> Card:
    return Card.model_validate(
        card_fields("tiny", data, source={"kind": "uri", "uri": address, **source}, licence_of_code="MIT")
    )


def usable(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if not path.name.startswith(".")]


def left(cache: Path) -> list[str]:
    """What is neither a lock nor published."""
    return [path.name for path in cache.iterdir() if path.name.startswith(".") and path.suffix != ".lock"]


def test_weights_come_from_a_web_server(web: Web, cache: Path) -> None:
    steps: list[str] = []
    path = fetch(card_at(f"{web.address}/tiny.onnx", size_bytes=len(WEIGHTS)), cache, steps.append)
    assert path.read_bytes() == WEIGHTS
    assert usable(cache) == ["tiny.onnx"]
    assert not left(cache)
    assert steps == [f"downloading 1 MB from {web.address[7:]}"]


def test_a_connection_that_breaks_is_continued_within_a_pull(web: Web, cache: Path) -> None:
    web.cuts = [300_000]
    assert fetch(card_at(f"{web.address}/tiny.onnx"), cache).read_bytes() == WEIGHTS
    assert [wanted for _, wanted in web.asked] == [None, "bytes=300000-"]


def test_the_next_pull_goes_on_where_the_last_one_broke_off(web: Web, cache: Path) -> None:
    web.cuts = [100_000, 100_000, 100_000]
    with pytest.raises(StorageError, match="tiny broke off after 300000 bytes") as raised:
        fetch(card_at(f"{web.address}/tiny.onnx"), cache)
    assert "pull again" in raised.value.remedy
    assert usable(cache) == []
    web.asked.clear()
    assert fetch(card_at(f"{web.address}/tiny.onnx"), cache).read_bytes() == WEIGHTS
    assert web.asked[0][1] == "bytes=300000-"


def test_a_server_without_ranges_is_asked_for_all_of_it_again(web: Web, cache: Path) -> None:
    web.ranges, web.cuts = False, [300_000]
    assert fetch(card_at(f"{web.address}/tiny.onnx"), cache).read_bytes() == WEIGHTS


def test_a_file_that_has_become_shorter_is_fetched_afresh(web: Web, cache: Path) -> None:
    web.files["/tiny.onnx"], web.cuts = bytes(900_000), [800_000, 1, 1]
    with pytest.raises(StorageError):
        fetch(card_at(f"{web.address}/tiny.onnx", b"short"), cache)
    web.files["/tiny.onnx"], web.cuts = b"short", []
    assert fetch(card_at(f"{web.address}/tiny.onnx", b"short"), cache).read_bytes() == b"short"


def test_other_bytes_are_said_and_lie_nowhere(web: Web, cache: Path) -> None:
    with pytest.raises(ModelMismatch, match=sha256(WEIGHTS)):
        fetch(card_at(f"{web.address}/tiny.onnx", b"what was meant"), cache)
    assert usable(cache) == []
    assert not left(cache)


def test_another_size_is_refused_before_it_is_downloaded(web: Web, cache: Path) -> None:
    with pytest.raises(ModelMismatch, match="1280000 bytes, its card says 17"):
        fetch(card_at(f"{web.address}/tiny.onnx", size_bytes=17), cache)
    assert usable(cache) == []


@pytest.mark.parametrize("said", ["", "99999999"])
def test_a_server_that_says_no_or_a_wrong_length_leaves_nothing_false(
    said: str, web: Web, cache: Path
) -> None:
    web.said = said
    wanted = card_at(f"{web.address}/tiny.onnx")
    if said:
        with pytest.raises(StorageError, match="broke off"):
            fetch(wanted, cache)
        assert usable(cache) == []
    else:
        assert fetch(wanted, cache).read_bytes() == WEIGHTS


def test_more_than_was_to_come_is_not_kept(web: Web, cache: Path) -> None:
    web.said = ""
    with pytest.raises(ModelMismatch, match="more than 1000 bytes"):
        fetch(card_at(f"{web.address}/tiny.onnx", size_bytes=1000), cache)
    assert usable(cache) == []
    assert sum(path.stat().st_size for path in cache.iterdir()) == 0


def test_an_answer_from_another_byte_on_is_not_joined(web: Web, cache: Path) -> None:
    web.cuts, web.skew = [300_000], 10
    assert fetch(card_at(f"{web.address}/tiny.onnx"), cache).read_bytes() == WEIGHTS


def test_a_whole_download_that_was_not_yet_checked_is_not_made_again(web: Web, cache: Path) -> None:
    part = fetching.part_path(f"{web.address}/tiny.onnx", cache / "tiny.onnx")
    cache.mkdir()
    part.write_bytes(WEIGHTS)
    fetch(card_at(f"{web.address}/tiny.onnx", size_bytes=len(WEIGHTS)), cache)
    assert not web.asked


def test_a_redirect_is_followed_to_web_addresses_alone(web: Web, cache: Path, tmp_path: Path) -> None:
    web.moved = {"/latest": f"{web.address}/tiny.onnx"}
    assert fetch(card_at(f"{web.address}/latest"), cache).read_bytes() == WEIGHTS
    (tmp_path / "secret").write_bytes(b"secret")
    web.moved = {"/latest": f"file://{tmp_path}/secret"}
    with pytest.raises(StorageError):
        fetch(card_at(f"{web.address}/latest", b"secret"), cache)


def test_an_address_that_is_gone_says_what_to_put_where(web: Web, cache: Path) -> None:
    with pytest.raises(StorageError, match=r"tiny: 127\.0\.0\.1:\d+ answers 404 Not Found") as raised:
        fetch(card_at(f"{web.address}/gone.onnx?signature=s3cr3t"), cache)
    assert "save it as tiny.onnx in a folder named in FRPIPE_MODEL_DIR" in raised.value.remedy
    assert f"fetch {web.address}/gone.onnx where there is a network" in raised.value.remedy
    assert "s3cr3t" not in str(raised.value)


def test_no_network_says_what_to_put_where(web: Web, cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StorageError, match=r"tiny: 127\.0\.0\.1:\d+ cannot be reached: .*refused") as raised:
        fetch(card_at(f"http://127.0.0.1:{port}/pack.zip", member="a/b.onnx"), cache)
    assert "take a/b.onnx out of it and save it as tiny.onnx" in raised.value.remedy


def test_a_mirror_holds_files_by_host_and_path(
    web: Web, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files["/models/weights.example/v1/tiny.onnx"] = WEIGHTS
    wanted = card_at("https://weights.example/v1/tiny.onnx?x=1")
    monkeypatch.setenv("FRPIPE_MODEL_MIRROR", f"{web.address}/models/")
    assert fetch(wanted, cache).read_bytes() == WEIGHTS
    folder = tmp_path / "mirror/weights.example/v1"
    folder.mkdir(parents=True)
    (folder / "tiny.onnx").write_bytes(WEIGHTS)
    monkeypatch.setenv("FRPIPE_MODEL_MIRROR", str(tmp_path / "mirror"))
    assert fetch(wanted, tmp_path / "other").read_bytes() == WEIGHTS


def test_the_proxy_of_the_environment_is_asked(
    web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", web.address)
    assert fetch(card_at("http://weights.example/tiny.onnx"), cache).read_bytes() == WEIGHTS
    assert web.asked[0][0] == "http://weights.example/tiny.onnx"


def test_pulls_of_one_address_at_once_download_it_once(web: Web, cache: Path) -> None:
    wanted = card_at(f"{web.address}/tiny.onnx")
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(wanted, cache), range(4)))
    assert {path.read_bytes() for path in paths} == {WEIGHTS}
    assert len(web.asked) == 1


def test_a_large_download_takes_little_memory(web: Web, cache: Path) -> None:
    large = bytes(40 << 20)
    web.files["/tiny.onnx"] = large
    wanted = card_at(f"{web.address}/tiny.onnx", large)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        fetch(wanted, cache)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


@pytest.mark.parametrize("place", ["download", "publishing"])
def test_a_full_disk_is_said_with_its_folder(
    place: str, web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if place == "download":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(fetching, "place", full)
    with pytest.raises(StorageError, match="No space left on device") as raised:
        fetch(card_at(f"{web.address}/tiny.onnx"), cache)
    assert str(cache) in raised.value.message
    assert "FRPIPE_CACHE" in raised.value.remedy
    assert usable(cache) == []


def test_no_download_starts_where_it_has_no_room(web: Web, cache: Path) -> None:
    with pytest.raises(StorageError, match="No space left"):
        fetch(card_at(f"{web.address}/tiny.onnx", size_bytes=1 << 60), cache)
    assert not web.asked


def packed(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, data in members.items():
            pack.writestr(name, data)
    return stream.getvalue()


def test_a_member_of_an_archive_has_a_hash_of_its_own(web: Web, cache: Path) -> None:
    pack = packed({"pack/other.onnx": b"other", "pack/tiny.onnx": WEIGHTS})
    web.files["/pack.zip"] = pack
    source = {"member": "pack/tiny.onnx", "sha256": sha256(pack), "size_bytes": len(pack)}
    assert fetch(card_at(f"{web.address}/pack.zip", **source), cache).read_bytes() == WEIGHTS
    assert not left(cache)
    (cache / "tiny.onnx").unlink()
    with pytest.raises(ModelMismatch, match="the archive of tiny"):
        fetch(card_at(f"{web.address}/pack.zip", **source | {"sha256": sha256(b"")}), cache)
    with pytest.raises(ModelMismatch, match="tiny as fetched"):
        fetch(card_at(f"{web.address}/pack.zip", **source | {"member": "pack/other.onnx"}), cache)
    web.files["/pack.zip"] = b"<html>sign in</html>"
    with pytest.raises(ModelError, match=r"not a \.zip"):
        fetch(card_at(f"{web.address}/pack.zip", member="pack/tiny.onnx"), cache)
    assert usable(cache) == []
    assert not left(cache)


def test_terms_are_shown_and_accepted_by_name(web: Web, cache: Path) -> None:
    wanted = card_at(f"{web.address}/tiny.onnx").model_copy(
        update={"terms": Card.model_validate(card_fields("x", b"", terms=TERMS)).terms}
    )
    with pytest.raises(ModelError, match="for drawing only") as raised:
        fetch(wanted, cache, accepted=["another"])
    assert raised.value.remedy.endswith("frpipe models pull tiny --accept ask-first")
    assert not web.asked
    assert fetch(wanted, cache, accepted=["ask-first"]).read_bytes() == WEIGHTS
    assert fetch(wanted, cache).read_bytes() == WEIGHTS
