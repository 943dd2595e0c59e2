"""`frpipe run`: every job of frpipe and of installed packages, with or without a clone."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import frpipe
from frpipe.cli.main import main
from frpipe.cli.run import BUILT_IN

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests/plugin_package"
FINISHED = ROOT / "tests/fixtures/enroll-finished"
HEAVY = ("ray", "pyarrow", "pandas", "cv2", "onnxruntime", "matplotlib")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were installed."""
    monkeypatch.syspath_prepend(PLUGIN)


def _package(folder: Path, name: str, job: str, code: str) -> None:
    """Lay down an installed package of one module, with one job."""
    (folder / f"{name}.py").write_text(code)
    facts = folder / f"{name}-2.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
    (facts / "entry_points.txt").write_text(f"[frpipe.jobs]\n{job} = {name}:main\n")


def _python(*words: str) -> str:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.strip()


# frpipe's own jobs


def test_the_module_runs_and_says_its_version() -> None:
    assert _python("-m", "frpipe", "--version") == f"frpipe {frpipe.__version__}"


def test_the_wheel_has_the_version_the_types_and_the_command() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "frpipe/__init__.py"
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["frpipe"]
    assert (ROOT / "frpipe/py.typed").exists()


def test_every_script_of_a_clone_is_a_job_of_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(BUILT_IN)
    for name in BUILT_IN:
        monkeypatch.setattr(import_module(f"frpipe.cli.jobs.{name}"), "main", len)
        assert runpy.run_path(str(ROOT / f"jobs/{name}.py"))["main"](["two", "words"]) == 2


def test_without_a_name_the_jobs_are_listed_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 0
    said = capsys.readouterr().out.splitlines()
    for name in BUILT_IN:
        text = import_module(f"frpipe.cli.jobs.{name}").__doc__ or ""
        (line,) = [line for line in said if line.startswith(f"{name} ")]
        assert text.partition("\n")[0] in line


def test_a_job_shows_how_it_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    for name in BUILT_IN:
        with pytest.raises(SystemExit) as ended:
            main(["run", name, "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: frpipe run {name} ")
    assert _python("jobs/enroll.py", "--help").startswith("usage: enroll.py ")


def test_help_loads_nothing_heavy() -> None:
    calls = [["run"], ["run", "--help"], *(["run", name, "--help"] for name in BUILT_IN)]
    code = f"""
import sys
from frpipe.cli.main import main
for words in {calls!r}:
    try:
        main(words)
    except SystemExit:
        pass
print([module for module in {HEAVY!r} if module in sys.modules])
"""
    assert _python("-c", code).endswith("[]")


def test_an_error_of_a_job_names_it_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRPIPE_LOG", "json")
    words = ["--manifest", str(tmp_path / "none.csv"), "--output", str(tmp_path / "out"), "--dry-run"]
    assert main(["run", "enroll", *words]) == 3
    facts = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (facts["job"], facts["exit_code"]) == ("enroll", 3)
    monkeypatch.setattr(sys, "argv", [str(ROOT / "frpipe/__main__.py"), "run", "dinner"])
    assert main(["run", "dinner"]) == 2
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["job"] == "frpipe"


def test_commands_to_copy_work_without_a_clone() -> None:
    """A clone is needed only where its folder is submitted."""
    found = []
    for path in (ROOT / "frpipe").rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for before, line in zip(["", *lines], lines, strict=False):
            if (
                "python jobs/" in line
                and "`python jobs/" not in line
                and "ray job submit" not in before + line
            ):
                found.append(f"{path.name}: {line.strip()}")
    assert not found


def test_a_name_that_is_none_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "enrol"]) == 2
    said = capsys.readouterr().err
    assert "no job enrol" in said and "did you mean enroll?" in said


# jobs of other packages


def _count(output: Path, *more: str, features: Path = FINISHED) -> int:
    return main(["run", "faces_per_subject", "--features", str(features), "--output", str(output), *more])


COUNTED = "anna  2\nannie  1\nbela  2\ncora  1\ndana  2\nemil  1\n"


@pytest.mark.usefixtures("plugin")
def test_a_package_outside_the_tree_adds_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "faces_per_subject" in line]
    assert "Count the faces of each subject" in line and "frpipe-faces-per-subject 1.0" in line
    assert _count(tmp_path / "out", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["faces"] == 9
    assert not (tmp_path / "out").exists()
    assert _count(tmp_path / "out") == 0
    assert capsys.readouterr().out == COUNTED
    assert main(["check", str(tmp_path / "out")]) == 0


@pytest.mark.usefixtures("plugin")
def test_it_goes_on_where_it_stopped_as_every_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert _count(out) == 0
    first = {path.name: path.read_bytes() for path in (out / "counts").iterdir()}
    for name in ("_SUCCESS", "files.json", "report.json", "report.md", "counts/part-000001.parquet"):
        (out / name).unlink()
    (out / "counts/part-000002.parquet").write_bytes(b"damaged")
    stays = (out / "counts/part-000000.parquet").stat()
    capsys.readouterr()
    assert _count(out) == 0
    said = capsys.readouterr()
    assert said.out == COUNTED
    assert "1 unit is damaged and will be done again" in said.err
    assert {path.name: path.read_bytes() for path in (out / "counts").iterdir()} == first
    assert (out / "counts/part-000000.parquet").stat() == stays
    assert _count(out) == 0
    assert "complete already" in capsys.readouterr().err
    assert _count(out, features=FINISHED.parent / "enroll-probes") == 6


@pytest.mark.usefixtures("plugin")
def test_its_errors_and_its_help_are_like_those_of_other_jobs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sys.argv[:]
    assert _count(tmp_path / "out", features=tmp_path) == 6
    assert "error [output]: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "faces_per_subject", "--help"])
    assert capsys.readouterr().out.startswith("usage: frpipe run faces_per_subject ")
    assert sys.argv == before


def test_the_job_of_the_documentation_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    _package(tmp_path, "documented_job", "documented", code)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["run", "documented", str(FINISHED)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert sorted(said) == sorted(COUNTED.replace("  ", " ").splitlines())
    assert main(["run", "documented", str(tmp_path)]) == 6


def test_a_package_that_is_broken_spoils_its_own_job_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(tmp_path, "broken_package", "broken", "import no_such_module\n")
    _package(tmp_path, "odd_package", "odd", "main = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["run"]) == 0
    said = capsys.readouterr().out
    assert "enroll" in said and "cannot be loaded: ModuleNotFoundError" in said
    assert main(["run", "broken"]) == 2
    assert "-> mend or uninstall broken_package 2.0" in capsys.readouterr().err
    assert main(["run", "odd"]) == 2
    assert "names no function" in capsys.readouterr().err


def test_nobody_takes_the_name_of_another_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = '"""Cook."""\ndef main(words): print("cooked")\n'
    for name, job in (("cook_one", "cook"), ("cook_two", "cook"), ("cook_three", "enroll")):
        _package(tmp_path, name, job, code)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["run", "cook"]) == 2
    assert "cook_one 2.0, cook_two 2.0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["run", "enroll", "--help"])
    assert "usage: frpipe run enroll" in capsys.readouterr().out


def test_a_job_that_returns_nothing_has_ended_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _package(tmp_path, "cook_four", "cook", '"""Cook."""\ndef main(words): print("cooked", *words)\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["run", "cook", "--soup", "-n", "2"]) == 0
    assert capsys.readouterr().out == "cooked --soup -n 2\n"
