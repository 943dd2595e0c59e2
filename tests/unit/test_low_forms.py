"""Forms stored beside shards: no row differs, none outlives its vectors, none is believed blindly."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_runs import Photo, made_run

from frpipe.cli.main import main as frpipe
from frpipe.core.errors import OutOfMemory, StorageError
from frpipe.core.kernel_names import Wish
from frpipe.gallery import lifecycle
from frpipe.gallery.catalog import Purged, ShardRef
from frpipe.gallery.derived import Derived, DerivedFiles, basis_name, derived_from, digest_of
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.gallery.spec import GallerySpec
from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Haystack
from frpipe.io.output import run
from frpipe.io.output.parts import check_part, write_part
from frpipe.io.storage.folder import Folder
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.consolidate.result import Consolidated
from frpipe.jobs.dedup.job import Dedup, DedupExecution
from frpipe.jobs.erase.everywhere import GalleryProof
from frpipe.jobs.erase.proof import ErasureError
from frpipe.jobs.identify.job import Identifying, SearchExecution
from frpipe.jobs.low_forms import LowForms, form_problems, stored_forms
from frpipe.matching.choice import Stored, choose
from frpipe.matching.subspace import Subspace
from frpipe.testing.executors import InThisProcess

DIM, SHARD, ROWS, PROBES = 48, 90, 290, 60
HASHES = {f"frpipe.{name}_hash": name[0] * 64 for name in ("embedder", "preprocessing", "detector")}
KERNELS: tuple[Wish, ...] = ("subspace", "subspace-int8")
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def _vectors(rows: int, seed: int) -> np.ndarray:
    """In 20 of 48 dimensions, and a little beside them."""
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(DIM, DIM)))[0]
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 20)) @ turn[:20] + 0.05 * rng.normal(size=(rows, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _people(rows: int, first: int = 0, seed: int = 1) -> pa.Table:
    names = [f"p{row:04}" for row in range(first, first + rows)]
    vectors = _vectors(rows, seed)
    vectors[rows // 2 :] = vectors[: rows - rows // 2]
    columns = {"subject_id": names, "face_id": names, "embedding": vector_array(vectors)}
    return pa.table({**columns, "floor": [f"{row % 3}" for row in range(rows)]})


def _gallery(place: Path, **more: Any) -> Gallery:
    made = Gallery.create(
        str(place), GallerySpec(DIM, "e" * 64, "p" * 64, "d" * 64, rows_per_shard=SHARD, **more)
    )
    lifecycle.enroll(made, [_people(ROWS)])
    return made


@pytest.fixture
def gallery(tmp_path: Path) -> Gallery:
    return _gallery(tmp_path / "G")


@pytest.fixture(autouse=True)
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the trial of kernels all take the same time."""
    monkeypatch.setattr("frpipe.matching.choice._cpu_s", lambda work: 1.0)


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of as many photos with a face each."""
    folder = tmp_path_factory.mktemp("probes")
    out, ids = Folder.at(str(folder)), [f"photo-{row}" for row in range(PROBES)]
    run.claim(out, {"manifest": "0" * 64}, {"manifest": "m.csv", "created": "2026-01-01T00:00:00+00:00"})
    nothing = pa.nulls(PROBES, pa.string())
    images = {"image_id": ids, "image_uri": ids, "subject_id": nothing, "reason": nothing}
    ones = pa.array([1] * PROBES, pa.int32())
    images |= {"width": ones, "height": ones}
    box = dict.fromkeys(("box_x1", "box_y1", "box_x2", "box_y2"), pa.array([1.0] * PROBES, pa.float32()))
    faces = {"face_id": [f"{each}#0" for each in ids], "image_id": ids, "image_uri": ids}
    vectors = _vectors(ROWS, 1)[:PROBES] + 0.02 * _vectors(PROBES, 9)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = pa.array([0] * PROBES, pa.int32())
    write_part(
        out,
        0,
        pa.table({**images, "status": ["ok"] * PROBES, "faces": ones}),
        pa.table(
            {**faces, **box, "face_index": index, "subject_id": nothing, "embedding": vector_array(vectors)}
        ),
        HASHES,
    )
    run.seal(out, list(check_part(out, 0)[:2]), {"faces": PROBES}, "")
    return folder


def _found(gallery: Gallery, probes: Path, out: Path, kernel: Wish = "subspace-int8", **more: Any) -> Any:
    execution = SearchExecution(kernel=kernel, probe_rows=20, forms=more.pop("forms", True))
    job = Identifying(
        str(probes),
        gallery.uri,
        str(out),
        threshold=0.5,
        k=5,
        execution=execution,
        runtime=InThisProcess(),
        **more,
    )
    job.run()
    return pa.concat_tables(
        pq.read_table(path) for path in sorted((out / "probes").glob("*.parquet"))
    ).to_pylist()


def _pairs(gallery: Gallery, out: Path, kernel: Wish = "subspace-int8", **more: Any) -> Any:
    execution = DedupExecution(block_rows=SHARD, kernel=kernel, forms=more.pop("forms", True))
    Dedup(
        str(out), gallery=gallery.uri, threshold=0.8, execution=execution, runtime=InThisProcess(), **more
    ).run()
    return pa.concat_tables(
        pq.read_table(path) for path in sorted((out / "pairs").glob("*.parquet"))
    ).to_pylist()


def _derived(gallery: Gallery) -> dict[str, bytes]:
    folder = Path(gallery.uri)
    return {name: (folder / name).read_bytes() for name in DerivedFiles(gallery.folder).names()}


def _lows(gallery: Gallery) -> list[Path]:
    return [Path(gallery.uri) / name for name in _derived(gallery) if name.endswith(".low")]


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("rows were brought into the form of the kernel")


# Rows are the same


@pytest.mark.parametrize("kernel", KERNELS)
def test_with_stored_forms_rows_are_the_same_to_the_last_bit_and_forms_are_made_once(
    kernel: Wish, gallery: Gallery, probes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _found(gallery, probes, tmp_path / "plain", "fp32")
    alike = _pairs(gallery, tmp_path / "alike", "fp32")
    assert not _derived(gallery)
    assert _found(gallery, probes, tmp_path / "first", kernel) == plain
    stored = _derived(gallery)
    assert len(stored) == 1 + len(gallery.snapshot().version.shards)
    monkeypatch.setattr(Subspace, "packed", _never)
    monkeypatch.setattr(Subspace, "tile", _never)
    monkeypatch.setattr("frpipe.jobs.identify.kernel_choice.choose", _chosen_as_stored)
    monkeypatch.setattr("frpipe.jobs.dedup.plan.choose", _chosen_as_stored)
    assert _found(gallery, probes, tmp_path / "second", kernel) == plain
    assert _pairs(gallery, tmp_path / "pairs", kernel) == alike
    assert _derived(gallery) == stored


def _chosen_as_stored(wish: Any, sample: Any, task: Any, stored: Any = None) -> Any:
    from frpipe.matching.choice import Choice

    assert stored.basis is not None and stored.lacking[wish] == 0
    return Choice(wish, "", stored.basis, 1.0, stored=True)


@pytest.mark.parametrize("kernel", KERNELS)
def test_rows_that_are_hidden_left_out_or_added_change_nothing_but_who_is_there(
    kernel: Wish, gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    _found(gallery, probes, tmp_path / "first", kernel)
    lifecycle.delete(gallery, ["p0003", "p0150", "p0289"])
    lifecycle.enroll(gallery, [_people(30, 500, seed=3)], "append")
    for number, more in enumerate(
        ({}, {"where": {"floor": "1"}}, {"score": "mean"}, {"min_similarity": 0.4})
    ):
        plain = _found(gallery, probes, tmp_path / f"plain-{number}", "fp32", **more)
        assert _found(gallery, probes, tmp_path / f"low-{number}", kernel, **more) == plain
    assert _pairs(gallery, tmp_path / "low", kernel) == _pairs(gallery, tmp_path / "plain", "fp32")
    # The new shard has a form now, in the basis that was there.
    assert len(_derived(gallery)) == 1 + len(gallery.snapshot().version.shards)


@pytest.mark.parametrize("kernel", KERNELS)
def test_only_what_is_new_since_is_compared_to_the_same_result(
    kernel: Wish, gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    _pairs(gallery, tmp_path / "before", kernel)
    lifecycle.enroll(gallery, [_people(30, 500, seed=1)], "append")
    since = {"since": str(tmp_path / "before")}
    assert sorted(map(str, _pairs(gallery, tmp_path / "low", kernel, **since))) == sorted(
        map(str, _pairs(gallery, tmp_path / "plain", "fp32", **since))
    )


def test_without_forms_nothing_is_stored(gallery: Gallery, probes: Path, tmp_path: Path) -> None:
    _found(gallery, probes, tmp_path / "out", forms=False)
    _pairs(gallery, tmp_path / "pairs", forms=False)
    assert not _derived(gallery)


def test_of_a_part_of_the_people_nothing_is_stored(gallery: Gallery, probes: Path, tmp_path: Path) -> None:
    _found(gallery, probes, tmp_path / "part", where={"floor": "1"})
    assert not _derived(gallery)
    _found(gallery, probes, tmp_path / "all")
    kept = _derived(gallery)
    lifecycle.enroll(gallery, [_people(30, 500, seed=3)], "append")
    _found(gallery, probes, tmp_path / "again", where={"floor": "1"})
    assert _derived(gallery) == kept


def test_a_dry_run_stores_nothing(gallery: Gallery, probes: Path, tmp_path: Path) -> None:
    execution = SearchExecution(kernel="subspace-int8")
    Identifying(
        str(probes),
        gallery.uri,
        str(tmp_path / "o"),
        threshold=0.5,
        execution=execution,
        runtime=InThisProcess(),
    ).dry_run()
    assert not _derived(gallery)


def test_an_encrypted_gallery_has_no_forms(
    probes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", KEY)
    secret = _gallery(tmp_path / "S", encryption="aes-256-gcm")
    plain = _found(secret, probes, tmp_path / "plain", "fp32")
    assert _found(secret, probes, tmp_path / "low") == plain
    assert not _derived(secret)


def test_a_gallery_that_takes_no_files_is_searched_all_the_same(
    gallery: Gallery, probes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    plain = _found(gallery, probes, tmp_path / "plain", "fp32")
    monkeypatch.setattr("frpipe.gallery.derived._fill", full)
    assert _found(gallery, probes, tmp_path / "low") == plain
    assert [
        path.name for path in Path(gallery.uri).rglob("*") if "low" in path.name or "basis" in path.name
    ] == []


# Made when faces are put into the gallery


class _Face(Photo):
    """A photo whose vector lies in the few dimensions that those of the gallery fill."""

    @property
    def vector(self) -> np.ndarray:
        return _vectors(1, int(self.content))[0]


def _enrolled(place: Path, people: int = 5) -> str:
    """A finished run of new people."""
    return made_run(place, [_Face(f"new-{n}.jpg", f"new-{n}", f"{n}") for n in range(people)]).uri


def _consolidated(gallery: str, features: str, **how: Any) -> Consolidated:
    return Consolidation(features, gallery, forms=how.pop("forms", True), **how).run()


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few templates are worth a trial, and it finds that integers in few dimensions are the quickest."""
    monkeypatch.setattr("frpipe.matching.choice._FEW_PAIRS", 0)
    monkeypatch.setattr("frpipe.jobs.low_forms.choose", _always_low)


def _always_low(_: Wish, *sample: Any, **stored: Any) -> Any:
    return choose("subspace-int8", *sample, **stored)


@pytest.mark.parametrize("kernel", KERNELS)
def test_new_templates_get_the_forms_that_are_stored_and_no_search_makes_them(
    kernel: Wish, gallery: Gallery, probes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _found(gallery, probes, tmp_path / "first", kernel)
    features, stored = _enrolled(tmp_path / "new"), _derived(gallery)
    done = _consolidated(gallery.uri, features)
    assert done.as_dict()["forms"] == {"kernels": (kernel,), "made": 1, "lacking": 0, "why": ""}
    assert f"forms      1 file of {kernel} made\n" in done.text()
    assert len(_derived(gallery)) == len(stored) + 1 and stored.items() < _derived(gallery).items()
    assert form_problems(gallery) == []
    monkeypatch.setattr(Subspace, "packed", _never)
    monkeypatch.setattr("frpipe.jobs.identify.kernel_choice.choose", _chosen_as_stored)
    plain = _found(gallery, probes, tmp_path / "plain", "fp32")
    assert _found(gallery, probes, tmp_path / "second", kernel) == plain
    assert _consolidated(gallery.uri, features).forms.made == 0


def test_the_first_forms_are_those_of_the_kernel_that_a_trial_finds(
    low: None, tmp_path: Path, gallery: Gallery
) -> None:
    features = _enrolled(tmp_path / "new")
    assert _consolidated(gallery.uri, features, forms=False).forms is None
    assert not _derived(gallery)
    done, shards = _consolidated(gallery.uri, features), len(gallery.snapshot().version.shards)
    assert done.forms is not None and (done.forms.kernels, done.forms.made) == (
        ("subspace-int8",),
        shards,
    )
    assert len(_derived(gallery)) == 1 + shards
    assert lifecycle.verify(gallery) == [] == form_problems(gallery)
    lifecycle.clear(gallery)
    lifecycle.compact(gallery)
    assert not _derived(gallery)


def test_where_forms_would_not_pay_none_are_made_and_it_is_said(
    tmp_path: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = _enrolled(tmp_path / "new")
    assert "forms      none made: so few templates" in _consolidated(gallery.uri, features).text()
    monkeypatch.setenv("FRPIPE_GALLERY_KEY", KEY)
    secret = _gallery(tmp_path / "S", encryption="aes-256-gcm")
    assert "encrypted" in _consolidated(secret.uri, features).text()
    assert not _derived(gallery) and not _derived(secret)


def test_a_gallery_that_takes_no_forms_takes_templates_all_the_same(
    low: None, tmp_path: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frpipe.gallery.derived._fill", full)
    done = _consolidated(gallery.uri, _enrolled(tmp_path / "new"))
    assert (done.added, done.forms.made) == (5, 0) and "none made" in done.text()
    assert not _derived(gallery)


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("stored_forms", StorageError("the disk does not answer")),
        ("typical_rows", OutOfMemory("not enough memory")),
        ("kernel_of", StorageError("the disk does not answer")),
        ("LowForms.store", OutOfMemory("not enough memory")),
        ("LowForms.store", MemoryError()),
    ],
)
def test_templates_that_are_committed_stay_a_success_where_forms_fail(
    low: None, tmp_path: Path, gallery: Gallery, monkeypatch: pytest.MonkeyPatch, at: str, error: Exception
) -> None:
    features = _enrolled(tmp_path / "new", 8)
    if at != "typical_rows":
        assert _consolidated(gallery.uri, _enrolled(tmp_path / "first")).forms.made

    def fail(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"frpipe.jobs.low_forms.{at}", fail)
        done = _consolidated(gallery.uri, features)
    assert done.added and done.version and done.forms is not None and done.forms.made == 0
    assert str(error) in next(line for line in done.text().splitlines() if line.startswith("forms"))
    assert _consolidated(gallery.uri, features).forms.made


def test_a_compaction_in_between_leaves_no_form_without_its_shard(
    gallery: Gallery, probes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _found(gallery, probes, tmp_path / "first")
    features, store = _enrolled(tmp_path / "new"), LowForms.store

    def late(forms: LowForms, ref: ShardRef) -> bool:
        lifecycle.clear(gallery)
        lifecycle.compact(gallery)
        return store(forms, ref)

    monkeypatch.setattr(LowForms, "store", late)
    done = _consolidated(gallery.uri, features)
    assert done.forms is not None and (done.forms.made, done.forms.lacking) == (0, 1)
    assert "1 left for a search" in done.text()
    assert [*Path(gallery.uri).glob("shards/*")] == [*Path(gallery.uri).glob("shards/.*")] == []


def test_the_command_makes_forms_where_it_is_told(
    gallery: Gallery, probes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _found(gallery, probes, tmp_path / "first")
    words = ["run", "consolidate", "--features", _enrolled(tmp_path / "new"), "--gallery", gallery.uri]
    assert frpipe([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forms"] is None
    assert frpipe([*words, "--forms", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["forms"]["made"] == 1


# None is believed blindly


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _of_another_shard(path: Path) -> None:
    other = next(each for each in path.parent.glob("*.low") if each != path)
    shutil.copy(other, path)


def _with_a_lie(path: Path) -> None:
    """All numbers are another shard's, and the file says of itself that it is this one's."""
    other = next(each for each in path.parent.glob("*.low") if each != path)
    mine, its = (
        DerivedFiles(Folder.at(str(path.parents[1]))).read(f"shards/{each.name}") for each in (path, other)
    )
    assert mine is not None and its is not None
    rows = len(mine.array)
    _write(path, Derived(mine.sources, its.facts, np.resize(its.array, (rows, its.array.shape[1]))))


def _with_bounds_of_nothing(path: Path) -> None:
    mine = DerivedFiles(Folder.at(str(path.parents[1]))).read(f"shards/{path.name}")
    assert mine is not None
    _write(path, replace(mine, facts={}))


def _write(path: Path, made: Derived) -> None:
    name = f"shards/{path.name}"
    assert DerivedFiles(Folder.at(str(path.parents[1]))).write(name, [], lambda: made)


DAMAGES = (_torn, _emptied, _flipped, _of_another_shard, _with_a_lie, _with_bounds_of_nothing)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_form_that_is_not_its_shards_is_nothing_and_made_anew(
    damage: Callable[[Path], None], gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    plain = _found(gallery, probes, tmp_path / "plain", "fp32")
    _found(gallery, probes, tmp_path / "first")
    before = _derived(gallery)
    assert form_problems(gallery) == []
    spoilt = _lows(gallery)[0]
    damage(spoilt)
    assert [problem.file for problem in form_problems(gallery)] == [f"shards/{spoilt.name}"]
    assert _found(gallery, probes, tmp_path / "again") == plain
    assert _derived(gallery) == before
    assert form_problems(gallery) == []


@pytest.mark.parametrize("damage", [_torn, _emptied, _flipped])
def test_a_damaged_basis_is_nothing_and_another_is_measured(
    damage: Callable[[Path], None], gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    plain = _found(gallery, probes, tmp_path / "plain", "fp32")
    _found(gallery, probes, tmp_path / "first")
    damage(next(Path(gallery.uri).glob("shards/*.basis")))
    assert _found(gallery, probes, tmp_path / "again") == plain


@pytest.mark.parametrize("factor", [1e19, 3.0, 0.0])
def test_a_basis_that_is_none_is_nothing_though_its_file_is_whole(
    factor: float, gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    matrix = np.full((DIM, 20), factor, np.float32)
    refs = list(gallery.snapshot().version.shards)
    files, name = DerivedFiles(gallery.folder), basis_name(digest_of(matrix))
    assert files.write(name, refs, lambda: derived_from(refs, {}, matrix))
    assert stored_forms(gallery, gallery.snapshot()) == Stored()
    assert [problem.file for problem in form_problems(gallery)] == [name]
    assert _found(gallery, probes, tmp_path / "low") == _found(gallery, probes, tmp_path / "plain", "fp32")


def test_verify_names_what_is_wrong_and_the_command_fails(
    gallery: Gallery, probes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _found(gallery, probes, tmp_path / "first")
    assert frpipe(["gallery", "verify", gallery.uri]) == 0
    spoilt = _lows(gallery)[0]
    low = DerivedFiles(gallery.folder).read(f"shards/{spoilt.name}")
    assert low is not None
    # One row of it, which no search tries.
    array = low.array.copy()
    array[7] ^= 255
    _write(spoilt, replace(low, array=array))
    capsys.readouterr()
    assert frpipe(["gallery", "verify", gallery.uri]) == 10
    assert spoilt.name in capsys.readouterr().out


def test_a_file_with_a_header_of_nonsense_is_nothing(tmp_path: Path) -> None:
    files, name = DerivedFiles(Folder.at(str(tmp_path))), f"shards/{'a' * 16}.basis"
    (tmp_path / "shards").mkdir()
    headers: list[Any] = [
        [],
        {},
        {"sources": {"a": "b"}, "facts": {}, "dtype": "<f8", "shape": [1, 1]},
        {"sources": {"a": "b"}, "facts": {}, "dtype": "|O", "shape": [1, 1]},
        {"sources": {"a": "b"}, "facts": {}, "dtype": "<f4", "shape": [-1, -1]},
        {"sources": {"a": "b"}, "facts": {}, "dtype": "<f4", "shape": [10**9, 10**9]},
        {"sources": {"a": "b"}, "facts": {}, "dtype": "<f4", "shape": [float("inf"), 1]},
        {"sources": {"a": "b"}, "facts": {"x": float("nan")}, "dtype": "<f4", "shape": [1, 1]},
        {"sources": {}, "facts": {}, "dtype": "<f4", "shape": [1, 1]},
        {"sources": {"a": "b"}, "facts": {}, "dtype": "<f4", "shape": [1, 1], "more": 1},
    ]
    read = []
    for header in headers:
        text = json.dumps(header).encode()
        data = b"FRPLOW01" + len(text).to_bytes(4, "little") + text + bytes(4)
        (tmp_path / name).write_bytes(data + hashlib.sha256(data).digest())
        read.append(files.read(name) is not None)
    assert read == [False] * (len(headers) - 1) + [True]
    (tmp_path / name).write_bytes(b"FRPLOW01\xff\xff\xff\xff" + bytes(60))
    assert files.read(name) is None
    deep = b"FRPLOW01" + (10**5).to_bytes(4, "little") + b"[" * 10**5
    (tmp_path / name).write_bytes(deep + hashlib.sha256(deep).digest())
    assert files.read(name) is None


# None outlives its vectors


def test_a_compaction_takes_forms_and_basis_with_the_vectors_of_the_deleted(
    gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    _found(gallery, probes, tmp_path / "first")
    first = gallery.snapshot().version.shards[0]
    who = str(gallery.snapshot().open(first).text("subject_id")[0])
    lifecycle.delete(gallery, [who])
    before = _derived(gallery)
    lifecycle.compact(gallery)
    left = _derived(gallery)
    stem = Path(first.name).stem
    assert any(stem in name for name in before) and not any(stem in name for name in left)
    assert DerivedFiles(gallery.folder).strays(gallery.snapshot().version.shards) == []
    assert lifecycle.verify(gallery) == [] == form_problems(gallery)
    # The basis was measured on that shard, and a form in a basis that is gone is of no use.
    assert left == {}
    plain = _found(gallery, probes, tmp_path / "plain", "fp32")
    assert _found(gallery, probes, tmp_path / "again") == plain


def test_a_compaction_that_takes_nobody_leaves_forms_and_basis(
    gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    _found(gallery, probes, tmp_path / "first")
    full = {Path(ref.name).stem for ref in gallery.snapshot().version.shards}
    lifecycle.enroll(gallery, [_people(5, 700, seed=8)], "append")
    lifecycle.compact(gallery)
    left = _derived(gallery)
    assert {name.split("/")[1].split(".")[0] for name in left if name.endswith(".low")} == full
    assert sum(name.endswith(".basis") for name in left) == 1
    assert lifecycle.compact(gallery).version == gallery.snapshot().number
    assert _derived(gallery) == left


def test_the_basis_is_of_large_shards_whichever_job_stores_it(gallery: Gallery, tmp_path: Path) -> None:
    """The small ones of last night are joined with others by the next compaction."""
    for night in range(2):
        lifecycle.enroll(gallery, [_people(5, 500 + 100 * night, seed=8 + night)], "append")
        _pairs(gallery, tmp_path / f"{night}")
        basis = next(name for name in _derived(gallery) if name.endswith(".basis"))
    lifecycle.compact(gallery)
    assert basis in _derived(gallery)


def test_clear_and_compact_leave_nothing(gallery: Gallery, probes: Path, tmp_path: Path) -> None:
    _found(gallery, probes, tmp_path / "first")
    lifecycle.clear(gallery)
    lifecycle.compact(gallery)
    assert [*Path(gallery.uri).glob("shards/*")] == [*Path(gallery.uri).glob("shards/.*")] == []


def test_a_damaged_form_goes_with_the_next_compaction(gallery: Gallery, probes: Path, tmp_path: Path) -> None:
    _found(gallery, probes, tmp_path / "first")
    spoilt = _lows(gallery)[0]
    _torn(spoilt)
    lifecycle.compact(gallery)
    assert not spoilt.exists()


@pytest.mark.parametrize("grace", [timedelta(0), timedelta(microseconds=1)], ids=["at once", "grace"])
@pytest.mark.parametrize("moment", ["before the draft", "while it is filled", "just before it is moved"])
def test_a_form_that_is_written_while_its_shard_goes_never_stays(
    moment: str, grace: timedelta, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = gallery.snapshot().version.shards[0]
    files = DerivedFiles(gallery.folder)
    name = f"{ref.name.removesuffix('.h5')}.{'a' * 16}.subspace.low"
    made = derived_from([ref], {}, np.ones((ref.rows, 3), np.float32))

    def gone(*_: Any) -> Derived:
        lifecycle.clear(gallery)
        lifecycle.compact(gallery, grace=grace)
        return made

    if moment == "before the draft":
        gone()
        assert not files.write(name, [ref], _never)
    elif moment == "while it is filled":
        assert not files.write(name, [ref], gone)
    else:
        adopt = Folder.adopt

        def late(self: Folder, target: str, source: Path) -> None:
            if target == name:
                gone()
            adopt(self, target, source)

        monkeypatch.setattr(Folder, "adopt", late)
        assert not files.write(name, [ref], lambda: made)
    assert [*Path(gallery.uri).glob("shards/*")] == [*Path(gallery.uri).glob("shards/.*")] == []


def test_a_gallery_compacted_under_a_search_says_so(gallery: Gallery) -> None:
    from frpipe.matching.basis import Spectrum
    from frpipe.matching.kernels import kernel_of

    basis = Spectrum.of(_vectors(100, 1)).leading(20)
    kernel = kernel_of("subspace-int8", basis)
    snapshot = gallery.snapshot()
    forms = LowForms(gallery, snapshot, kernel, basis, name="subspace-int8", most_bytes=0)
    lifecycle.clear(gallery)
    lifecycle.compact(gallery)
    ref = snapshot.version.shards[0]
    assert forms.of(ref, None) is None
    with pytest.raises(Purged):
        snapshot.open(ref)


def test_the_proof_of_an_erasure_looks_at_derived_files(
    gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    _found(gallery, probes, tmp_path / "first")
    proof = GalleryProof(gallery, ErasedIds.of("6b" * 32, (), ()), frozenset(), Haystack(frozenset()))
    searched = proof.prove()
    assert searched.others == 0
    kept = _lows(gallery)[0].read_bytes()
    stem = "0" * 20
    stray = Path(gallery.uri) / f"shards/{stem}.{'a' * 16}.subspace.low"
    other = ShardRef(f"shards/{stem}.h5", 1, 1, "0" * 64, ())
    DerivedFiles(gallery.folder).write(
        f"shards/{stray.name}", [], lambda: derived_from([other], {}, np.ones((1, 3), np.float32))
    )
    with pytest.raises(ErasureError, match="derived"):
        proof.prove()
    lifecycle.compact(gallery)
    assert not stray.exists() and _lows(gallery)[0].read_bytes() == kept
    proof.prove()
    _torn(_lows(gallery)[0])
    with pytest.raises(ErasureError, match="derived"):
        proof.prove()


# Killed while forms are written

_KILLED = """
import os, signal, sys
from pathlib import Path
from frpipe.gallery import derived
from frpipe.gallery.gallery import Gallery
from frpipe.io.storage.folder import Folder
from frpipe.jobs import low_forms
from frpipe.matching import choice
import test_low_forms as job

gallery, probes, out, which, moment = sys.argv[1:]
calls, fill, adopt = [], derived._fill, Folder.adopt

def killed():
    os.kill(os.getpid(), signal.SIGKILL)

def filled(path, made):
    calls.append(path)
    fill(path, made)
    if len(calls) == 3 and moment == "half":
        os.truncate(path, path.stat().st_size // 2)
        killed()

def adopted(self, name, source):
    if name.endswith(".low") and len(calls) == 3 and moment == "unmoved":
        killed()
    adopt(self, name, source)
    if name.endswith((".low", ".basis")) and len(calls) == (1 if moment == "basis" else 3):
        killed()

derived._fill, Folder.adopt = filled, adopted
if which == "identify":
    job._found(Gallery.open(gallery), Path(probes), Path(out))
elif which == "dedup":
    job._pairs(Gallery.open(gallery), Path(out))
else:
    choice._FEW_PAIRS, low_forms.choose = 0, job._always_low
    job._consolidated(gallery, out)
"""


@pytest.mark.parametrize(
    ("which", "moment"),
    [
        ("identify", "basis"),
        pytest.param("identify", "half", marks=pytest.mark.slow),
        pytest.param("identify", "moved", marks=pytest.mark.slow),
        pytest.param("dedup", "half", marks=pytest.mark.slow),
        ("dedup", "unmoved"),
    ],
)
def test_killed_while_a_form_is_written_the_same_command_gives_the_same_rows(
    which: str, moment: str, gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    def again(name: str, kernel: Wish = "subspace-int8") -> Any:
        if which == "identify":
            return _found(gallery, probes, tmp_path / name, kernel)
        return _pairs(gallery, tmp_path / name, kernel)

    _kill(gallery, probes, tmp_path / "out", which, moment)
    plain = again("plain", "fp32")
    assert again("out") == plain
    assert again("other") == plain
    assert form_problems(gallery) == []
    assert len(_lows(gallery)) == len(gallery.snapshot().version.shards)
    lifecycle.compact(gallery)
    assert [*Path(gallery.uri).glob("shards/.*")] == []


@pytest.mark.parametrize("moment", [pytest.param("basis", marks=pytest.mark.slow), "half"])
def test_killed_while_it_makes_forms_consolidate_makes_the_rest_when_it_is_run_again(
    moment: str, low: None, gallery: Gallery, probes: Path, tmp_path: Path
) -> None:
    features = _enrolled(tmp_path / "new")
    _kill(gallery, probes, Path(features), "consolidate", moment)
    version, left = gallery.snapshot().number, len(_derived(gallery))
    assert left < 1 + len(gallery.snapshot().version.shards)
    done = _consolidated(gallery.uri, features)
    assert (done.version, done.added) == (version, 0) and done.forms is not None
    assert len(_derived(gallery)) == 1 + len(gallery.snapshot().version.shards) == left + done.forms.made
    assert form_problems(gallery) == []
    lifecycle.compact(gallery)
    assert [*Path(gallery.uri).glob("shards/.*")] == []


def _kill(gallery: Gallery, probes: Path, out: Path, which: str, moment: str) -> None:
    """Run a job in another process, which is killed at this moment."""
    here = str(Path(__file__).parent)
    words = [sys.executable, "-c", _KILLED, gallery.uri, str(probes), str(out), which, moment]
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", ""), str(Path(__file__).parents[2])])
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
