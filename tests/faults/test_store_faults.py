"""An S3 store on a bad day: jobs get through, or end with a clear error and go on from where they stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clean_runs import Clean
from enrollment import job_here
from faulty_jobs import Job, check_run
from kill_points import same
from proxy import PASSING, Faults, Kind, Proxy, proxied
from s3server import S3, forget_clients, s3  # noqa: F401 - a fixture

from frpipe.core.errors import StorageError
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.io.output.plan import plan
from frpipe.io.storage.folder import Folder

EXPIRED = Faults(("403",), after=12)
BAD_DAY = Faults(PASSING, share=0.15, seed=1)
ANSWERS_LOST = Faults(("lost",), share=0.5, seed=2, pattern=r"^PUT ")

JOBS = {
    "enroll on a bad day": ("enroll", replace(BAD_DAY, seed=4)),
    "enroll with credentials that expire": ("enroll", Faults(("403",), after=40)),
    "enroll on a store that has closed": ("enroll", Faults(("503",), after=60)),
    "enroll cut off at some parts": ("enroll", Faults(("cut",), pattern=r"^PUT .*images/part-00000[2-9]")),
    "enroll with answers lost": ("enroll", ANSWERS_LOST),
    "identify on a bad day": ("identify", replace(BAD_DAY, seed=5)),
    "identify with credentials that expire": ("identify", Faults(("403",), after=40)),
    "identify with torn probes": (
        "identify",
        Faults(("torn",), pattern=r"^GET .*features/faces/part-00000[3-9]"),
    ),
    "identify with answers lost": ("identify", replace(ANSWERS_LOST, seed=6)),
}


@pytest.fixture
def proxy(s3: S3) -> Iterator[Proxy]:  # noqa: F811
    with proxied(s3.endpoint) as running:
        yield running


@pytest.fixture
def environment(s3: S3, proxy: Proxy) -> dict[str, str]:  # noqa: F811
    """Of a job that knows the store by the proxy, with as many retries as by default."""
    values = {**os.environ, **s3.environment, "AWS_ENDPOINT_URL": proxy.endpoint}
    return {name: value for name, value in values.items() if name not in ("AWS_MAX_ATTEMPTS", "RAY_ADDRESS")}


def upload(source: Path, uri: str) -> None:
    target = Folder.at(uri)
    for path in source.rglob("*"):
        if path.is_file():
            target.write(path.relative_to(source).as_posix(), path.read_bytes())


def download(uri: str, target: Path) -> Path:
    source = Folder.at(uri)
    for entry in source.list():
        (target / entry.name).parent.mkdir(parents=True, exist_ok=True)
        (target / entry.name).write_bytes(source.read(entry.name))
    return target


def disturb(job: Job, output: str, faults: Faults, proxy: Proxy, environment: dict[str, str]) -> int:
    """Run a job on a store with faults; it ends well, or as an error of ours."""
    proxy.set(faults)
    done = job.run(output, environment)
    assert proxy.met.total() > 0, "the job met no fault"
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode in (0, 7), done.stderr
    assert (done.returncode == 7) == ("error [storage]" in done.stderr and "->" in done.stderr), done.stderr
    proxy.set(Faults())
    return done.returncode


def calm(job: Job, output: str, environment: dict[str, str]) -> None:
    done = job.run(output, environment)
    assert done.returncode == 0, done.stderr


def templates(uri: str) -> pa.Table:
    gallery = Gallery.open(uri)
    assert lifecycle.verify(gallery) == []
    assert gallery.snapshot().number <= 1
    tables = gallery.snapshot().tables()
    return pa.concat_tables(tables).sort_by("face_id").combine_chunks()


@pytest.fixture(scope="module")
def whole(disturbed: dict[str, Job], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An enroll output and its gallery, which need no cluster."""
    features, gallery = (tmp_path_factory.mktemp("whole") / name for name in ("features", "gallery"))
    for name, *words in (
        ("enroll", *disturbed["enroll"].words, "--output", features),
        ("consolidate", "--features", features, "--gallery", gallery),
    ):
        done = job_here(name, *words)
        assert done.returncode == 0, done.stderr
    return features, gallery


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(EXPIRED, id="expired", marks=pytest.mark.slow),
        pytest.param(BAD_DAY, id="bad day", marks=pytest.mark.slow),
        pytest.param(ANSWERS_LOST, id="answers lost", marks=pytest.mark.slow),
    ],
)
def test_a_gallery_is_changed_whole_or_not_at_all(
    faults: Faults,
    s3: S3,  # noqa: F811
    proxy: Proxy,
    environment: dict[str, str],
    whole: tuple[Path, Path],
    disturbed: dict[str, Job],
) -> None:
    features, gallery = whole
    upload(features, f"{s3.uri}/features")
    job = replace(disturbed["consolidate"], words=("--features", f"{s3.uri}/features"))
    code = disturb(job, f"{s3.uri}/G", faults, proxy, environment)
    assert code == 7 or faults is not EXPIRED
    if Folder.at(f"{s3.uri}/G").list("versions"):
        same(templates(f"{s3.uri}/G"), job.content(gallery))
    calm(job, f"{s3.uri}/G", environment)
    same(templates(f"{s3.uri}/G"), job.content(gallery))


@pytest.mark.parametrize(("form", "kind"), [("csv", "503"), ("parquet", "torn"), ("jsonl", "403")])
def test_a_store_that_fails_is_not_taken_for_a_bad_manifest(
    form: str,
    kind: Kind,
    s3: S3,  # noqa: F811
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [{"image_id": f"i{n}", "image_uri": f"{s3.uri}/{n}.jpg"} for n in range(100)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    (tmp_path / "m.csv").write_text(
        "".join(f"{i},{u}\n" for i, u in [tuple(rows[0]), *map(dict.values, rows)])
    )
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Folder.at(s3.uri).write(f"m.{form}", (tmp_path / f"m.{form}").read_bytes())
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    # The header and the digest are read apart from the rows.
    for after in (1, 3):
        forget_clients()
        proxy.set(Faults((kind,), pattern=rf"^GET .*m\.{form}", after=after))
        with pytest.raises(StorageError) as caught:
            plan(f"{s3.uri}/m.{form}", Folder.at(str(tmp_path / "out")))
        assert caught.value.remedy
        assert not (tmp_path / "out/_plan/plan.json").exists()
    forget_clients()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "faults"), JOBS.values(), ids=list(JOBS))
def test_a_job_gets_through_or_ends_and_goes_on(
    name: str,
    faults: Faults,
    s3: S3,  # noqa: F811
    proxy: Proxy,
    environment: dict[str, str],
    clean: Clean,
    disturbed: dict[str, Job],
    photos: list[Path],
    tmp_path: Path,
) -> None:
    clean.events(name)
    job = on_store(disturbed[name], s3.uri, clean)
    output = f"{s3.uri}/out"
    code = disturb(job, output, faults, proxy, environment)
    there = Folder.at(output)
    assert (code == 0) == there.exists("_SUCCESS")
    calm(job, output, environment)
    found = download(output, tmp_path / "found")
    check_run(found)
    same(job.content(found), job.content(clean.output(name)))


def on_store(job: Job, uri: str, clean: Clean) -> Job:
    """The same job with what it reads on the store."""
    if job.name == "enroll":
        return job
    upload(clean.output("enroll"), f"{uri}/features")
    upload(clean.output("consolidate"), f"{uri}/G")
    words = (f"{uri}/features" if word == str(clean.output("enroll")) else word for word in job.words)
    return replace(
        job, words=tuple(f"{uri}/G" if word == str(clean.output("consolidate")) else word for word in words)
    )
