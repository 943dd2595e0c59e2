"""The enroll job with galleries whose lists it obeys: what it leaves out, and that nothing tells on them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from enrollment import ROOT, content, write_manifest

from frpipe.gallery.gallery import Gallery
from frpipe.gallery.suppression import Names
from frpipe.jobs.features import FeatureRun

SETTINGS = ("--set", "resources.part_rows=2")


@pytest.fixture(scope="module")
def job() -> ModuleType:
    found = importlib.util.spec_from_file_location("enroll_job", ROOT / "jobs/enroll.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def _ends(out: Path) -> dict[str, str | None]:
    return {row["image_id"]: row["reason"] for row in content(out, "images").to_pylist()}


def test_whom_the_gallery_lists_no_run_enrolls(job: ModuleType, photos: list[Path], tmp_path: Path) -> None:
    gallery, first, second = (tmp_path / name for name in ("g", "first", "second"))
    files = [Path(shutil.copy(photos[i], tmp_path / f"{i}.jpg")) for i in range(4)]
    people = [f"person-{i}" for i in range(4)]
    manifest = write_manifest(tmp_path / "m.csv", files, subject_id=people)
    to_gallery = ("--gallery", str(gallery), *SETTINGS)
    assert job.main(["--manifest", str(manifest), "--output", str(first), *to_gallery]) == 0
    lists = Gallery.open(str(gallery)).suppressions
    moved = hashlib.sha256(files[3].read_bytes()).hexdigest()
    names = [
        Names(frozenset({"person-0"})),
        Names(contents=frozenset({moved})),
        Names(images=frozenset({"id-0001"})),
    ]
    lists.suppress(names, "request 7", "desk")
    # The place of person-2's photo now holds the file that is suppressed; what the gallery has of it goes.
    shutil.copy(files[3], files[2])
    limits = ("--set", "run.max_reject_ratio=0")
    assert job.main(["--manifest", str(manifest), "--output", str(second), *to_gallery, *limits]) == 0
    assert _ends(second) == dict.fromkeys(_ends(first), "suppressed")
    assert len(content(second, "faces")) == 0
    report = json.loads((second / "report.json").read_text())
    assert (report["rows"], report["rejected"], report["reasons"]) == (4, 4, {"suppressed": 4})
    assert Gallery.open(str(gallery)).snapshot().subjects == 0
    same = [json.loads((out / "run.json").read_text())["identity"] for out in (first, second)]
    assert same[0] == same[1]
    entries = lists.read().entries
    secrets = {d for e in entries for d in (e.key, *e.subjects, *e.images, *e.contents)}
    told = b"".join(path.read_bytes() for path in second.rglob("*") if path.is_file())
    assert not any(secret.encode() in told for secret in secrets)


def test_what_is_done_stays_and_what_is_allowed_comes_with_a_replay(
    job: ModuleType, photos: list[Path], tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "m.csv", photos[:4], subject_id=["ann", "bob", "eva", "ann"])
    out, again, plain = (str(tmp_path / name) for name in ("out", "again", "plain"))
    assert job.main(["--manifest", str(manifest), "--output", plain, *SETTINGS]) == 0
    lists = Gallery.ensure(str(tmp_path / "g"), FeatureRun.open(plain).spec).suppressions
    lists.suppress([Names(frozenset({"ann"}))])
    obey = ("--obey", str(tmp_path / "g"))
    assert job.main(["--manifest", str(manifest), "--output", out, *obey, *SETTINGS]) == 0
    suppressed = {
        name: "suppressed" if name in ("id-0000", "id-0003") else None for name in _ends(Path(plain))
    }
    assert _ends(Path(out)) == suppressed
    # Half of it is lost, and the list is another one by now: the run goes on, and its other half stays.
    lists.suppress([Names(frozenset({"bob", "eva"}))])
    for name in ("_SUCCESS", "files.json", "images/part-000001.parquet"):
        (Path(out) / name).unlink()
    assert job.main(["--manifest", str(manifest), "--output", out, *obey, *SETTINGS]) == 0
    assert _ends(Path(out)) == {**suppressed, "id-0002": "suppressed"}
    assert job.main(["--replay", out, "--output", again]) == 2
    lists.allow(Names(frozenset({"ann", "eva"})))
    assert job.main(["--replay", out, "--output", again, "--replay-reasons", "suppressed", *obey]) == 0
    for table, other in (("images", ["attempts"]), ("faces", ["embedding", "norm"])):
        done, whole = (content(Path(each), table).drop_columns(other) for each in (again, plain))
        assert done.equals(whole)
