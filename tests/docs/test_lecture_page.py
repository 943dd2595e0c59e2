"""The lecture's page: its table is true, its pictures are made, and its notebook is the page.

`PYTHONPATH=tests python tests/docs/test_lecture_page.py` runs the page on the demo's photos, with the default
models, and writes what came out into it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from doc_blocks import ROOT, Block, blocks_of
from doc_place import demo_photos as draw_photos
from doc_place import in_this_process, make_models
from PIL import Image
from real_photos import demo_photos
from test_pages import Program

from frpipe.core.config import Config
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.models.registry import Registry
from frpipe.runtime.runtime import Runtime
from frpipe.testing.executors import InThisProcess

PAGE = ROOT / "docs/lecture.md"
BLOCKS = [block for block in blocks_of(PAGE) if block.language in ("sh", "console", "python")]
RUN = [block for block in BLOCKS if not block.why]
_OUTPUT = re.compile(r"(<!-- output -->\n```text\n).*?(^```$)", re.M | re.S)


def _notebook() -> Any:
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "docs/notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Done(NamedTuple):
    """The page after it ran. outputs: what each block printed, or each of its commands."""

    place: Path
    outputs: list[list[str]]

    def printed(self, word: str) -> str:
        """By the blocks that hold a word."""
        found = [
            text for block, out in zip(RUN, self.outputs, strict=True) if word in block.text for text in out
        ]
        assert found, word
        return "\n".join(found)


def _ran(place: Path, patch: pytest.MonkeyPatch) -> Done:
    program = Program(place, patch)
    return Done(place, [program.run(block) for block in RUN])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """On drawn people, with tiny models."""
    place = tmp_path_factory.mktemp("lecture")
    with pytest.MonkeyPatch.context() as patch:
        in_this_process(patch, make_models(tmp_path_factory.mktemp("models")))
        patch.chdir(place)
        patch.setenv("HOME", str(place))
        Path("photos").mkdir()
        draw_photos()
        done = _ran(place, patch)
    pipeline_of.cache_clear()
    return done


def _on_real_photos(place: Path) -> Done | None:
    """With the default models; None: they or the demo's photos are not on this machine."""
    photos, registry, wanted = demo_photos(), Registry.default(), Config()
    models = ("detector", wanted.detect.model), ("embedder", wanted.embed[0].model)
    if photos is None or any(registry.locate(registry.card_for(*model)) is None for model in models):
        return None
    with pytest.MonkeyPatch.context() as patch:
        pipeline_of.cache_clear()
        for name in ("open", "nodes"):
            patch.setattr(Runtime, name, getattr(InThisProcess, name))
        patch.chdir(place)
        shutil.copytree(photos, "photos")
        _write_manifest(Path("manifest.csv"))
        return _ran(place, patch)


def _write_manifest(path: Path) -> None:
    known = {f"president-{number}.jpg": "barack-obama" for number in (1, 2, 3)} | {
        "vice-president.jpg": "joe-biden",
        "six-strangers.jpg": "",
    }
    rows = [f"{name},photos/{name},{subject}" for name, subject in known.items()]
    path.write_text("\n".join(["image_id,image_uri,subject_id", *rows, ""]))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Done:
    done = _on_real_photos(tmp_path_factory.mktemp("real"))
    if done is None:
        pytest.skip("the demo's photos or the default models are not here: make models photos")
    return done


# the table


class Row(NamedTuple):
    slide: str
    command: str
    python: str
    picture: str


def _rows() -> list[Row]:
    text = PAGE.read_text(encoding="utf-8")
    lines = text.partition("|---|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


def _code(cell: str) -> str:
    return cell.strip("`")


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row.slide)
def test_a_row_of_the_table_leads_to_what_it_names(row: Row, drawn: Done) -> None:
    text = PAGE.read_text(encoding="utf-8")
    anchor = row.slide.partition("(#")[2].rstrip(")")
    headings = {
        re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
    }
    assert anchor in headings
    commands = [command for block in BLOCKS if block.language != "python" for command in block.commands()]
    wanted = _code(row.command).split()
    assert any([word for word in command.split() if word in wanted] == wanted for command in commands)
    if row.python:
        programs = "\n".join(block.text for block in BLOCKS if block.language == "python")
        assert re.search(rf"\b{re.escape(_code(row.python))}\(", programs)
    if row.picture:
        with Image.open(drawn.place / _code(row.picture)) as picture:
            assert min(picture.size) >= 100


def test_all_parts_of_the_lecture_are_there() -> None:
    assert len(_rows()) == 20
    assert all(_code(row.command).startswith("frpipe ") for row in _rows())


# what the page says of real photos


def test_on_real_photos_every_answer_is_right(real: Done) -> None:
    first = real.printed("frpipe identify photos/president-3.jpg")
    assert first.startswith("Barack Obama (0)")
    assert "stranger: similarity" in first
    assert real.printed("one call").count("verified False") == 1
    assert real.printed("for candidate in found").splitlines()[1].startswith("stranger")
    assert "exact 0.9;" in real.printed("ten-pairs.csv --at")
    assert "exact 0.58;" in real.printed("ten-searches.csv --at")
    assert "AUC on this grid 1, exact 1;" in real.printed("verified/pairs")
    lists = real.printed("import slide.gallery").split("made ")
    assert [[name in text for name in ("Barack Obama", "Joe Biden")] for text in lists[1:]] == [
        [True, False],
        [True, True],
    ]


def test_pictures_are_made_of_real_photos(real: Done) -> None:
    assert {_code(row.picture) for row in _rows() if row.picture} <= {
        path.name for path in real.place.iterdir()
    }


# the notebook


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("notebook") / "lecture.ipynb"
    assert _notebook().main([str(PAGE), str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_notebook_is_one(made: dict[str, Any]) -> None:
    """By the rules of nbformat 4.5."""
    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert made["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in made["cells"]]
    assert len({*ids}) == len(ids)
    for cell in made["cells"]:
        assert re.fullmatch(r"[\w-]{1,64}", cell["id"])
        wanted = {"id", "cell_type", "metadata", "source"}
        assert {*cell} == (wanted | {"outputs", "execution_count"} if cell["cell_type"] == "code" else wanted)
        assert cell["cell_type"] in ("code", "markdown")
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert cell["source"]


def test_the_notebook_holds_no_output(made: dict[str, Any]) -> None:
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert not any("<!-- output" in line for cell in made["cells"] for line in cell["source"])


def _cells(made: dict[str, Any]) -> list[tuple[str, bool]]:
    """Source of each code cell, and whether it only shows a picture."""
    return [
        ("".join(cell["source"]), "picture" in cell["metadata"].get("tags", ()))
        for cell in made["cells"]
        if cell["cell_type"] == "code"
    ]


def _as_block(source: str) -> Block:
    shell = source.removeprefix("%%bash\nset -e\n")
    return Block("docs/lecture.md", 1, "python" if shell == source else "sh", f"{shell}\n", "")


def test_its_cells_are_the_blocks_of_the_page_in_their_order(made: dict[str, Any]) -> None:
    cells = [_as_block(source) for source, shows in _cells(made) if not shows]
    blocks = [block for block in BLOCKS if block.why != "data"]
    assert len(cells) == len(blocks)
    for cell, block in zip(cells, blocks, strict=True):
        if block.language == "python":
            assert (cell.language, cell.text.rstrip()) == ("python", block.text.rstrip())
        else:
            assert (cell.language, [*cell.commands()]) == ("sh", [*block.commands()])


def test_its_pictures_are_those_of_the_page_and_are_made(made: dict[str, Any], drawn: Done) -> None:
    shown = [re.findall(r'Image\("(.*)"\)', source)[0] for source, shows in _cells(made) if shows]
    assert {*shown} == {_code(row.picture) for row in _rows() if row.picture}
    assert all((drawn.place / name).is_file() for name in shown)


def test_its_cells_run_one_after_the_other(
    made: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    in_this_process(monkeypatch, make_models(tmp_path_factory.mktemp("models")))
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    draw_photos()
    program = Program(tmp_path, monkeypatch)
    for source, shows in _cells(made):
        if not shows and "frpipe demo" not in source:
            program.run(_as_block(source))
    pipeline_of.cache_clear()


def test_links_lead_where_they_led(made: dict[str, Any]) -> None:
    page = _notebook().notebook(
        "# One thing\n\n[a](python.md#x) [b](#one-thing) [c](https://a.b)\n", "../docs/"
    )
    assert page["cells"][0]["source"][-1] == "[a](../docs/python.md#x) [b](#One-thing) [c](https://a.b)"
    texts = ("".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "markdown")
    text = "\n".join(texts)
    headings = {heading.replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, re.M)}
    assert {*re.findall(r"\]\(#([^)]*)\)", text)} <= headings


# writing outputs into the page


def _filled(text: str, done: Done) -> str:
    """The page with what its blocks printed."""
    for block, printed in zip(RUN, done.outputs, strict=True):
        outputs = [out.replace(f"{done.place}/", "").rstrip("\n") for out in printed]
        fence = f"```{block.language}\n{block.text}```\n"
        assert text.count(fence) == 1, f"{block.place}: two blocks of the page are the same"
        before, _, after = text.partition(fence)
        if block.language == "console":
            fence = f"```console\n{_with_outputs(block, outputs)}```\n"
        elif after.startswith("\n<!-- output -->"):
            after = _OUTPUT.sub(lambda found, out=outputs[0]: f"{found[1]}{out}\n{found[2]}", after, count=1)
        text = before + fence + after
    return text


def _with_outputs(block: Block, outputs: Sequence[str]) -> str:
    commands = re.findall(r"^\$ (?:.*\\\n)*.*\n", block.text, re.M)
    return "".join(f"{c}{out}\n" if out else c for c, out in zip(commands, outputs, strict=True))


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        found = _on_real_photos(Path(folder).resolve())
    if found is None:
        sys.exit("the demo's photos or the default models are not here: make models photos")
    PAGE.write_text(_filled(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
