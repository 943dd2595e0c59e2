"""Ten nights of photos that change: they end in the gallery that is made from scratch of what is there."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from album_runs import Shot, enrolled, face, seal

from frpipe.core.errors import GalleryError
from frpipe.core.night_config import NightConfig
from frpipe.core.report import Report
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.likeness import Likeness
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate import job as consolidation
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.nightly import faces as night_faces
from frpipe.jobs.nightly import job as night_job
from frpipe.jobs.nightly.job import Night
from frpipe.jobs.nightly.journal import NightJournal
from frpipe.jobs.nightly.work import Work

NIGHTS, PEOPLE = 10, 8
Album = dict[str, list[Any]]


@pytest.fixture(autouse=True)
def _drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos are files of JSON: the seeds of their faces, or a status and a reason. No model sees them."""

    def enroll(work: Work, place: Folder, out: Folder, uri: str, source: str) -> Report:
        rows = pq.read_table(f"{place.uri}/manifest.parquet").to_pylist()
        shots = {row["image_id"]: _shot(Path(row["image_uri"]), row.get("subject_id")) for row in rows}
        root = rows[0]["image_uri"].removesuffix(f"/{rows[0]['image_id']}")
        day, manifest = (
            int(out.uri.rpartition("/enroll")[0][-2:]),
            Path(f"{place.uri}/../../../m.csv").resolve(),
        )
        enrolled(Path(out.uri), shots, day=day, root=root, manifest=manifest)
        return seal(out)

    monkeypatch.setattr(night_faces, "enrolled", enroll)
    monkeypatch.setattr(night_job, "check", lambda _: None)
    monkeypatch.setattr(night_job, "for_night", lambda config, *_: config)


def _shot(path: Path, subject: str | None) -> Shot:
    says = json.loads(path.read_text())
    if isinstance(says, list):
        return Shot(subject, [face(seed) for seed in says])
    return Shot(subject, **says)


def _write(root: Path, album: Mapping[str, Any]) -> None:
    for name, says in album.items():
        path, text = root / name, json.dumps(says)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in [path for path in root.rglob("*.jpg") if str(path.relative_to(root)) not in album]:
        path.unlink()


def _night(root: Path, number: int, **how: Any) -> dict[str, Any]:
    off = {name: {"enabled": False} for name in ("dedup", "identify", "drift")}
    settings = {"runs": str(root / "nights"), "gallery": str(root / "g"), "photos": str(root / "album")}
    config = NightConfig.model_validate({**settings, **off, "consolidate": how})
    report, bad = Night(config, f"2026-06-{number:02d}").run()
    assert bad is None
    found: dict[str, Any] = report["steps"]["consolidate"]
    return found


def _changed(album: Album, chance: random.Random, night: int) -> Album:
    """What the album is tomorrow: photos come, change, show others or nobody, are broken, and vanish."""
    now = dict(album)
    for name in list(now):
        what = chance.random()
        if what < 0.08:
            now[name] = [chance.randrange(900, 999)]
        elif what < 0.14:
            now[name] = {"status": "no_face"}
        elif what < 0.2:
            now[name] = {"status": "rejected", "reason": "truncated"}
        elif what < 0.26:
            now[name] = [chance.randrange(PEOPLE), chance.randrange(900, 999)]
        elif what < 0.32 and len(now) > 10:
            del now[name]
    for person in range(PEOPLE):
        now[f"p{person}/{night}.jpg"] = [person]
    return now


def _content(gallery: Gallery) -> list[tuple[str, str, bytes]]:
    rows = [row for table in gallery.snapshot().tables() for row in table.to_pylist()]
    return sorted((r["subject_id"], r["face_id"], np.array(r["embedding"], "f4").tobytes()) for r in rows)


@pytest.mark.slow
def test_ten_nights_end_in_the_gallery_that_is_made_from_scratch(tmp_path: Path) -> None:
    chance, album = random.Random(11), Album()
    superseded = 0
    for night in range(1, NIGHTS + 1):
        album = _changed(album, chance, night)
        _write(tmp_path / "album", album)
        done = _night(tmp_path, night, vanished="remove")
        superseded += done.get("superseded", 0)
    scratch = {name: _shot(tmp_path / "album" / name, name.partition("/")[0]) for name in sorted(album)}
    out = enrolled(tmp_path / "scratch", scratch, root=str(tmp_path / "album"))
    Consolidation(out, str(tmp_path / "anew")).run()
    gallery = Gallery.open(str(tmp_path / "g"))
    assert superseded > 3
    assert lifecycle.verify(gallery) == []
    assert _content(gallery) == _content(Gallery.open(str(tmp_path / "anew")))


def test_a_photo_that_vanished_keeps_its_template_unless_the_night_is_told_otherwise(tmp_path: Path) -> None:
    _write(tmp_path / "album", {"p1/1.jpg": [1], "p1/2.jpg": [2], "p2/1.jpg": [3]})
    _night(tmp_path, 1)
    _write(tmp_path / "album", {"p1/1.jpg": [1], "p1/2.jpg": [2]})
    assert _night(tmp_path, 2)["not_done"] == "nothing was enrolled"
    gallery = Gallery.open(str(tmp_path / "g"))
    assert gallery.snapshot().rows == 3
    _write(tmp_path / "album", {"p1/1.jpg": [1]})
    assert _night(tmp_path, 3, vanished="remove")["superseded"] == 1
    assert [face_id for _, face_id, _ in _content(gallery)] == ["p1/1.jpg#0", "p2/1.jpg#0"]
    assert gallery.log()[-1].note == 'consolidate {"vanished": 1}'


def test_two_nightly_configurations_do_not_replace_each_others_photos(tmp_path: Path) -> None:
    _write(tmp_path / "one/album", {"p1/1.jpg": [1]})
    _write(tmp_path / "two/album", {"p1/1.jpg": [2]})
    one = _config(tmp_path, "one")
    Night(one, "2026-06-01").run()
    before = _content(Gallery.open(one.gallery))
    with pytest.raises(GalleryError, match="another place"):
        Night(_config(tmp_path, "two"), "2026-06-01").run()
    assert _content(Gallery.open(one.gallery)) == before
    Night(_config(tmp_path, "two", source="hall"), "2026-06-02").run()
    assert [face_id for _, face_id, _ in _content(Gallery.open(one.gallery))] == [
        "hall/p1/1.jpg#0",
        "p1/1.jpg#0",
    ]


def _config(root: Path, name: str, **how: Any) -> NightConfig:
    off = {step: {"enabled": False} for step in ("dedup", "identify", "drift")}
    own = {
        "runs": str(root / name / "nights"),
        "photos": str(root / name / "album"),
        "gallery": str(root / "g"),
    }
    return NightConfig.model_validate({**own, **off, "consolidate": how})


def test_settings_that_older_nights_do_not_have_do_not_change_their_identity(tmp_path: Path) -> None:
    plain = _config(tmp_path, "one").identity()["consolidate"]
    assert set(plain) == {"enabled", "policy", "templates", "faces"}
    assert _config(tmp_path, "one", source="hall").identity()["consolidate"] == {**plain, "source": "hall"}


def test_a_night_that_was_killed_after_its_commit_tells_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidation, "likeness_of", lambda *_: Likeness(0.5))
    _write(tmp_path / "album", {"p1/1.jpg": [1], "p1/2.jpg": [2], "p2/1.jpg": [3]})
    _night(tmp_path, 1)
    _write(tmp_path / "album", {"p1/1.jpg": {"status": "no_face"}, "p1/2.jpg": [2], "p2/1.jpg": [2]})
    finish = NightJournal.finish

    def killed(journal: NightJournal, step: str, facts: dict[str, Any]) -> None:
        if step == "consolidate":
            raise KeyboardInterrupt
        finish(journal, step, facts)

    monkeypatch.setattr(NightJournal, "finish", killed)
    with pytest.raises(KeyboardInterrupt):
        _night(tmp_path, 2)
    monkeypatch.setattr(NightJournal, "finish", finish)
    gallery = Gallery.open(str(tmp_path / "g"))
    version = gallery.snapshot().number
    done = _night(tmp_path, 2)
    assert (done["version"], done["replaced"], done["superseded"]) == (version, 1, 1)
    assert done["doubted"] == {"unlike_own": 0, "like_another": 1}
    page = (tmp_path / "nights/2026-06-02/report.html").read_text()
    assert "p2: p2/1.jpg#0, 1.000 to p1/2.jpg#0 of p1" in page
    assert "templates superseded" in page
