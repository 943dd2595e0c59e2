"""Enroll jobs of photos on web servers: good ones get through, a replay takes the bad ones up again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import frozen
import pytest
from frozen import Frozen
from staged_runs import enrolled, replayed, table
from webserver import Exchange, web_server

from frpipe.core.config import load_config
from frpipe.io.manifest.fetch import Fetcher
from frpipe.io.output.plan import auto_part_rows

NAMES = ("anna-1.png", "anna-2.png", "bela-1.png", "cora-1.png")


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Frozen]:
    with frozen.copied(tmp_path / "frozen") as copy:
        yield copy


def test_a_bad_server_costs_its_own_photos_and_a_replay_gets_them(copy: Frozen, tmp_path: Path) -> None:
    sick = [True]

    async def photo(exchange: Exchange) -> None:
        await exchange.reply(200, (copy / "photos" / exchange.path.rpartition("/")[2]).read_bytes())

    async def no_photo(exchange: Exchange) -> None:
        if not sick:
            await photo(exchange)
        elif "anna" in exchange.path:
            await asyncio.sleep(60)
        else:
            await exchange.reply(503)

    with web_server() as good, web_server() as bad:
        good.answers |= {f"/{name}": photo for name in NAMES}
        bad.answers |= {f"/{name}": no_photo for name in NAMES}
        uris = [f"{server.url}/{name}" for name in NAMES for server in (bad, good)]
        manifest = tmp_path / "photos.csv"
        manifest.write_text("\n".join(("image_uri", *uris)) + "\n")
        settings = [f"storage.roots=[{good.url},{bad.url}]", "storage.http_timeout_s=0.8"]
        enrolled(manifest, tmp_path / "out", *settings, "resources.part_rows=8")
        images = (
            table(tmp_path / "out", "images").select(["image_uri", "status", "reason", "detail"]).to_pylist()
        )
        assert [row["image_uri"] for row in images] == uris
        assert {row["status"] for row in images if row["image_uri"].startswith(good.url)} == {"ok"}
        rejected = [row for row in images if row["image_uri"].startswith(bad.url)]
        assert {row["reason"] for row in rejected} == {"fetch_failed"}
        assert ["timed out" in row["detail"] for row in rejected] == [
            "anna" in row["image_uri"] for row in rejected
        ]
        sick.clear()
        replayed(tmp_path / "out", tmp_path / "again")
        again = table(tmp_path / "again", "images")
        assert again["status"].to_pylist() == ["ok"] * 8
        assert again["image_uri"].to_pylist() == uris


def test_parts_are_larger_where_they_may_wait_for_web_servers() -> None:
    web = ("/photos", "https://photos.example")
    assert [auto_part_rows(rows, 2, web) for rows in (100, 2_000, 50_000)] == [50, 1_000, 1_924]
    assert auto_part_rows(2_000, 2, ("/photos",)) == auto_part_rows(2_000, 2)


@pytest.mark.parametrize(("stall_s", "timeout_s"), [(300, 20), (10, 5)])
def test_a_worker_is_not_taken_for_stalled_while_it_waits_for_a_photo(stall_s: int, timeout_s: int) -> None:
    fetcher = Fetcher.of(load_config(None, [f"resources.stall_timeout_s={stall_s}"]))
    assert fetcher._of_web["timeout_s"] == timeout_s
