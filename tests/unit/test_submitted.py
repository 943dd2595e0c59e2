"""What a submitted job refuses before any work, as Ray runs it in a folder of its own."""

from __future__ import annotations

import base64
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, GalleryError
from frpipe.gallery.encryption import Cipher
from frpipe.jobs.consolidate.job import Consolidation
from frpipe.jobs.evaluate.job import Asked, IdentificationMetrics, VerificationMetrics
from frpipe.jobs.evaluate.pair_results import PairColumns
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.rejects import Choice
from frpipe.jobs.replay.job import Replay
from frpipe.jobs.verify.job import PairVerification

ROOT = Path(__file__).resolve().parents[2]
OUT = "/nowhere/out"


@pytest.fixture(autouse=True)
def submitted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.chdir(tmp_path)


def _job(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"submitted_{name}", ROOT / "jobs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pairs(**options: str) -> VerificationMetrics:
    asked = Asked([options.pop("results", "/r")], OUT)
    return VerificationMetrics(asked, PairColumns(), options.get("chosen_on"))


@pytest.mark.parametrize(
    ("flag", "attempt"),
    [
        ("--gallery", lambda: Consolidation("/features", "people").run()),
        ("--gallery", lambda: Consolidation("/features", "people").dry_run()),
        ("--features", lambda: Consolidation("features", "/people").run()),
        ("--features", lambda: PairVerification("pairs.csv", "features", OUT).run()),
        ("--features", lambda: PairVerification("pairs.csv", "features", OUT).dry_run()),
        ("--replay", lambda: Replay("run", Choice.of(), OUT, Config()).run()),
        ("--results", lambda: _pairs(results="r").run()),
        ("--thresholds-from", lambda: _pairs(chosen_on="r").run()),
        ("--enrolled", lambda: IdentificationMetrics(Asked(["/r"], OUT), "features").run()),
    ],
)
def test_a_relative_place_is_refused_before_the_work(flag: str, attempt: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match=f"relative {flag}"):
        attempt()


@pytest.mark.parametrize("source", [["--manifest", "m.csv", "--output", OUT], ["--replay", "/run"]])
@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
def test_enroll_refuses_a_relative_gallery_before_it_reads_a_photo(
    source: list[str], mode: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _job("enroll").main([*source, "--gallery", "people", *mode]) == 2
    assert "relative --gallery" in capsys.readouterr().err


@pytest.mark.parametrize(
    "uri", ["/data/G", "file:///data/G", "FILE:///data/G", "local:///data/G", "s3://b/G"]
)
def test_absolute_places_are_not_refused_however_they_are_written(uri: str) -> None:
    refuse_relative("--gallery", uri)


@pytest.mark.parametrize("uri", ["G", "./G", "file://G", "../G"])
def test_relative_places_are_refused_however_they_are_written(uri: str) -> None:
    with pytest.raises(ConfigError, match="relative --gallery"):
        refuse_relative("--gallery", uri)


def test_a_gallery_key_that_was_uploaded_with_the_job_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.delenv("FRPIPE_GALLERY_KEY", raising=False)
    uploaded = tmp_path / "working_dir_files" / "_ray_pkg_0123abcd"
    uploaded.mkdir(parents=True)
    for folder in (uploaded, tmp_path):
        (folder / "key").write_bytes(base64.b64encode(b"k" * 32))
    monkeypatch.chdir(uploaded)
    for name in ("key", str(uploaded / "key")):
        monkeypatch.setenv("FRPIPE_GALLERY_KEY_FILE", name)
        with pytest.raises(GalleryError, match="uploaded with the job"):
            Cipher.from_environment("g")
    monkeypatch.setenv("FRPIPE_GALLERY_KEY_FILE", str(tmp_path / "key"))
    Cipher.from_environment("g")
