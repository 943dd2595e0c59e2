"""Photos that a suppression list names, in an enroll job's workers and in what follows from them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from test_locate import FakeDetector, _jpeg

from frpipe.core.config import Config, RunConfig
from frpipe.core.errors import GalleryError
from frpipe.core.night_config import Gates
from frpipe.core.reasons import PASSING, Reason
from frpipe.core.report import PhotoCounts, Report
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.suppression import Names, Suppressions, _entry
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.gates import judged
from frpipe.jobs.obeying import obeyed_at
from frpipe.jobs.rejects import Choice, too_many_rejected
from frpipe.models.registry import Registry
from frpipe.stages import workers
from frpipe.stages.locate import Locator
from frpipe.stages.obeyed import Obeyed
from frpipe.stages.part_batch import PartBatch
from frpipe.stages.run_spec import RunSpec

KEY = "5a" * 32
SPEC = GallerySpec(16, "e" * 64, "p" * 64, "d" * 64)


def _list(*, subjects: Sequence[str] = (), images: Sequence[str] = (), files: Sequence[bytes] = ()) -> Obeyed:
    contents = frozenset(hashlib.sha256(file).hexdigest() for file in files)
    names = Names(frozenset(subjects), frozenset(images), contents)
    return Obeyed.of([Suppressions([_entry(KEY, names, "why", "who")])])


def _spec(output: str, obeyed: Obeyed) -> RunSpec:
    registry = Registry.default()
    detector, embedder = registry.card("yunet_2023mar"), registry.card("sface_2021dec")
    return RunSpec(
        output=output, launch="l", config=Config(), detector=detector, embedder=embedder, obeyed=obeyed
    )


def test_a_file_on_the_list_is_rejected_before_it_is_decoded() -> None:
    kept, barred, garbage = _jpeg(seed=1), _jpeg(seed=2), b"no photo"
    detector = FakeDetector(0.0)
    names = _list(files=[barred, garbage]).content_test()
    photos = [kept, barred, garbage]
    found = list(Locator(Config(), detector, names).locate(photos))  # type: ignore[arg-type]
    assert [each.reason for each in found] == [None, "suppressed", "suppressed"]
    assert sum(detector.seen) == 1 and found[1].width is None and not found[1].crops
    assert found[1].content_sha256 == hashlib.sha256(barred).hexdigest()


def test_a_worker_fetches_nothing_that_is_named_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.jpg").write_bytes(_jpeg(seed=1))
    (tmp_path / "copy.jpg").write_bytes(_jpeg(seed=2))
    rows = [
        "ann.jpg,kept.jpg,zoe",
        "a/1.jpg,gone.jpg,ann",
        "b/1.jpg,gone.jpg,bob",
        "c,copy.jpg,eva",
        "d,x.jpg,",
    ]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(("image_id,image_uri,subject_id", *rows)) + "\n")
    plan(str(manifest), Folder.at(str(tmp_path / "out")), 5)
    monkeypatch.setattr(
        workers, "locator_of", lambda config, _, __, barred, *___: Locator(config, FakeDetector(0.0), barred)
    )
    obeyed = _list(subjects=["ann"], images=["b/1.jpg"], files=[(tmp_path / "copy.jpg").read_bytes()])
    packed = workers.Locate(_spec(str(tmp_path / "out"), obeyed))(pa.table({"part": [0]}))
    images = PartBatch.unpack(packed).images
    assert images["reason"].to_pylist() == [None, "suppressed", "suppressed", "suppressed", "not_found"]
    assert images["detail"].to_pylist()[1:4] == ["by id", "by id", "by its content"]
    assert images["image_id"].to_pylist() == ["ann.jpg", "a/1.jpg", "b/1.jpg", "c", "d"]
    assert [each is None for each in images["content_sha256"].to_pylist()] == [False, True, True, False, True]
    assert images["attempts"].to_pylist() == [1] * 5 and images["faces"].to_pylist() == [1, 0, 0, 0, 0]


def test_a_gallery_s_name_of_a_source_goes_before_ids(tmp_path: Path) -> None:
    table = pa.table({"image_id": ["a/1.jpg", "site/a/1.jpg"], "subject_id": pa.nulls(2, pa.string())})
    obeyed = _list(images=["site/a/1.jpg"])
    assert obeyed.rows(table) == {1}
    assert dataclasses.replace(obeyed, source="site").rows(table) == {0}
    assert Obeyed().rows(table) == frozenset() and not Obeyed()


def test_orders_hold_digests_that_no_text_shows_and_survive_the_way_to_a_worker() -> None:
    plain, told = _spec("out", Obeyed()), _spec("out", _list(subjects=["ann"], files=[b"x"]))
    digests = {d for entry in told.obeyed.entries for d in (*entry.subjects, *entry.contents)}
    assert len(digests) == 2
    for text in (repr(told), str(told), repr(told.obeyed), repr([told])):
        assert not any(secret in text for secret in (KEY, "ann", "why", "who", *digests))
    assert told.recipe == plain.recipe and told.recipe.metadata() == plain.recipe.metadata()
    order = json.dumps(told.model_dump(mode="json"))
    assert "ann" not in order and "why" not in order
    assert RunSpec.model_validate(json.loads(order)) == told == pickle.loads(pickle.dumps(told))


def test_lists_of_several_galleries_are_obeyed_together(tmp_path: Path) -> None:
    one, two, none = (str(tmp_path / name) for name in ("one", "two", "none"))
    for uri, name in ((one, "ann"), (two, "bob")):
        Gallery.ensure(uri, SPEC).suppressions.suppress([Names(frozenset({name}))], "request 7", "desk")
    held = [obeyed_at(*each).suppressions() for each in (([one, two],), ([one], two), ([one, one], none))]
    assert [(h.holds("subjects", "ann"), h.holds("subjects", "bob")) for h in held] == [
        (True, True),
        (True, True),
        (True, False),
    ]
    assert all(entry.reason == entry.by == entry.created == "" for h in held for entry in h.entries)
    assert not obeyed_at([], none) and not obeyed_at([])
    with pytest.raises(GalleryError, match="no gallery"):
        obeyed_at([none])


def test_suppressed_photos_break_no_limit() -> None:
    report = Report.of(
        _tally(rows=10, rejected=9, reasons={"suppressed": 8, "truncated": 1}),
        pools=[], models={}, parts=1, launch_rows=10, wall_s=1.0, rows_per_s=1.0, output="OUT",
    )  # fmt: skip
    assert too_many_rejected(report, RunConfig(max_reject_ratio=0.5)) is None
    # Of the two that may be taken, one was rejected.
    error = too_many_rejected(report, RunConfig(max_reject_ratio=0.49))
    assert error is not None and "1 of 2" in error.message and "suppressed" not in error.message
    assert "| suppressed | 8 |" in report.text()
    named = RunConfig(max_reject_ratio_by_reason={Reason.SUPPRESSED: 0.7})
    assert "8 of 10" in getattr(too_many_rejected(report, named), "message", "")
    steps = {"enroll": {"rows": 10, "rejected": 9, "no_face": 1, "reasons": report.reasons}}
    values = {v.gate: v.value for v in judged(Gates(max_reject_ratio=1, max_no_face_ratio=1), steps)}
    assert (values["max_reject_ratio"], values["max_no_face_ratio"]) == (0.5, 0.5)


def _tally(rows: int, rejected: int, reasons: dict[str, int]) -> PhotoCounts:
    tally = PhotoCounts(rows=rows)
    tally.statuses.update({"ok": rows - rejected, "rejected": rejected})
    tally.reasons.update(reasons)
    return tally


def test_what_is_suppressed_is_done_again_only_by_name() -> None:
    everything = {reason.value for reason in Reason}
    assert Choice.of().causes == everything
    assert Choice.again().causes == everything - {"suppressed"}
    assert str(Choice.again()) == "any reason"
    assert Choice.again(["suppressed"]).causes == {"suppressed"}
    # A gallery has nothing of such a photo: what it had goes.
    assert Reason.SUPPRESSED not in PASSING
