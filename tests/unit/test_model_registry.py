"""Cards and weights: found by name, in order, and never run unpinned or altered."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_graphs import card_fields, relu, sha256, write_card

from frpipe.cli import models as cli
from frpipe.core.errors import ModelError, ModelMismatch, ModelMissing
from frpipe.models.card import Card
from frpipe.models.registry import DEFAULT_PACK, Registry, read_card
from frpipe.models.session import open_session


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.add_parser(parser.add_subparsers())
    options = parser.parse_args(["models", *arguments])
    return int(options.run(options))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one card (tiny), an empty cache and an empty folder of weights, in the environment."""
    write_card(tmp_path / "cards", card_fields("tiny", relu()))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("FRPIPE_CARD_DIR", str(tmp_path / "cards"))
    monkeypatch.setenv("FRPIPE_MODEL_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("FRPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_cards_of_frpipe_and_of_the_user_are_all_there(home: Path) -> None:
    names = set(Registry.default().cards())
    assert {"tiny", *DEFAULT_PACK} <= names


def test_a_card_of_the_user_stands_in_for_one_of_the_same_name(home: Path) -> None:
    write_card(home / "cards", card_fields("sface_2021dec", relu()))
    assert Registry.default().card("sface_2021dec").sha256 == sha256(relu())


def test_an_unknown_name_brings_the_nearest(home: Path) -> None:
    with pytest.raises(ModelError) as raised:
        Registry.default().card("yunet2023")
    assert "yunet_2023mar" in raised.value.remedy


def test_a_card_of_the_other_role_is_refused(home: Path) -> None:
    with pytest.raises(ModelError, match="role detector, not embedder"):
        Registry.default().card_for("embedder", "yunet_2023mar")
    assert Registry.default().card_for("embedder", "tiny").name == "tiny"


def test_a_folder_of_cards_that_is_not_there_is_an_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRPIPE_CARD_DIR", str(home / "crads"))
    with pytest.raises(ModelError, match="crads"):
        Registry.default().cards()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "abc"}, "sha256"),
        ({"licence_": "x"}, "licence_"),
        ({"role": "poet"}, "role"),
        ({"file": "../../escape.onnx"}, "file"),
        ({"source": {"kind": "magic"}}, "source"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    path = write_card(tmp_path, card_fields("tiny", relu()) | changes)
    with pytest.raises(ModelError, match=words):
        read_card(path)


def test_a_card_bears_the_name_of_its_file(tmp_path: Path) -> None:
    path = write_card(tmp_path, card_fields("tiny", relu())).rename(tmp_path / "other.yaml")
    with pytest.raises(ModelError, match="calls itself tiny"):
        read_card(path)


def test_a_card_without_a_hash_is_refused_until_it_is_pinned(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = card_fields("tiny", relu())
    del fields["sha256"]
    path = write_card(home / "cards", fields)
    weights = home / "weights" / "tiny.onnx"
    weights.write_bytes(relu())
    with pytest.raises(ModelError, match="does not pin") as raised:
        Registry.default().card("tiny")
    assert "frpipe models pin" in raised.value.remedy
    assert run("pin", str(path), str(weights)) == 0
    assert sha256(relu()) in capsys.readouterr().out
    registry = Registry.default()
    assert registry.find(registry.card("tiny")) == weights
    weights.write_bytes(b"another")
    assert run("pin", str(path), str(weights)) == 0
    assert path.read_text().count("sha256:") == 1


def test_pinning_needs_both_files(home: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        run("pin", str(home / "cards" / "tiny.yaml"), str(home / "none.onnx"))


def test_weights_are_looked_for_in_each_folder_then_in_the_cache(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = home / "second"
    second.mkdir()
    monkeypatch.setenv("FRPIPE_MODEL_DIR", os.pathsep.join([str(home / "weights"), str(second)]))
    registry = Registry.default()
    tiny = registry.card("tiny")
    assert registry.admit(tiny, relu()) == home / "cache" / "models" / "tiny.onnx"
    assert registry.find(tiny).parent == home / "cache" / "models"
    (second / "tiny.onnx").write_bytes(relu())
    assert registry.find(tiny).parent == second
    (home / "weights" / "tiny.onnx").write_bytes(relu())
    assert registry.find(tiny).parent == home / "weights"


def test_missing_weights_name_the_remedy(home: Path) -> None:
    registry = Registry.default()
    with pytest.raises(ModelMissing, match="tiny") as raised:
        registry.find(registry.card("tiny"))
    assert "draw it yourself" in raised.value.remedy
    with pytest.raises(ModelMissing) as raised:
        registry.find(registry.card("sface_2021dec"))
    assert raised.value.remedy == "frpipe models pull sface_2021dec"


def test_weights_are_read_as_they_were_checked(home: Path) -> None:
    (home / "weights" / "tiny.onnx").write_bytes(relu())
    registry = Registry.default()
    assert registry.read(registry.card("tiny")) == relu()
    with pytest.raises(ModelMissing):
        registry.read(registry.card("sface_2021dec"))


def test_a_card_that_cannot_be_read_hurts_nobody_who_does_not_ask_for_it(home: Path) -> None:
    (home / "cards" / "broken.yaml").write_text("name: [", encoding="utf-8")
    registry = Registry.default()
    assert registry.card("tiny").name == "tiny"
    with pytest.raises(ModelError, match="not YAML"):
        registry.card("broken")
    with pytest.raises(ModelError, match="not YAML"):
        registry.cards()


def test_altered_weights_are_refused_each_time(home: Path) -> None:
    weights = home / "weights" / "tiny.onnx"
    weights.write_bytes(relu())
    registry = Registry.default()
    tiny = registry.card("tiny")
    registry.find(tiny)
    weights.write_bytes(relu() + b"\0")
    with pytest.raises(ModelMismatch):
        registry.read(tiny)
    with pytest.raises(ModelMismatch) as raised:
        registry.find(tiny)
    assert tiny.sha256 in raised.value.message
    assert sha256(relu() + b"\0") in raised.value.message
    assert "tiny.onnx" in raised.value.message
    with pytest.raises(ModelMismatch):
        registry.pull(tiny)


def test_weights_that_are_not_the_cards_are_not_admitted(home: Path) -> None:
    registry = Registry.default()
    with pytest.raises(ModelMismatch):
        registry.admit(registry.card("tiny"), b"others")
    assert registry.locate(registry.card("tiny")) is None


def test_pull_takes_what_was_brought(home: Path) -> None:
    (home / "weights" / "tiny.onnx").write_bytes(relu())
    registry = Registry.default()
    assert registry.pull(registry.card("tiny")) == home / "weights" / "tiny.onnx"


def test_pull_mends_the_cache(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "origin.onnx").write_bytes(relu())
    source = {"kind": "uri", "uri": str(home / "origin.onnx")}
    write_card(home / "cards", card_fields("tiny", relu(), source=source))
    assert run("pull", "tiny") == 0
    cached = home / "cache" / "models" / "tiny.onnx"
    cached.write_bytes(b"rot")
    assert run("verify", "tiny") == 4
    assert "frpipe models pull tiny" in capsys.readouterr().out
    assert run("pull", "tiny") == 0
    assert cached.read_bytes() == relu()


def test_list_shows_where_and_what_is_missing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tiny"]["where"] is None
    assert rows["sface_2021dec"]["dim"] == 128
    (home / "weights" / "tiny.onnx").write_bytes(relu())
    assert run("list") == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["name", "role", "dim", "licence", "where"]
    assert next(line for line in table if line.startswith("tiny ")).endswith("weights/tiny.onnx")
    assert next(line for line in table if line.startswith("sface_2021dec")).endswith("missing: pull it")


def test_verify_passes_over_what_is_absent_unless_it_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("verify") == 0
    assert run("verify", "tiny") == 4
    (home / "weights" / "tiny.onnx").write_bytes(relu())
    assert run("verify") == 0
    assert "tiny: ok" in capsys.readouterr().out
    (home / "weights" / "tiny.onnx").write_bytes(b"x")
    assert run("verify") == 4


@pytest.mark.parametrize("command", ["", "list", "pull", "verify", "pin"])
def test_help_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(*command.split(), "--help")
    assert "frpipe" in capsys.readouterr().out


def test_every_card_is_whole_and_honest() -> None:
    for card in Registry.default().cards().values():
        assert len(card.limits) > 40
        assert len(card.training_data) > 40
        assert (card.detector is None) == (card.role == "embedder")
        assert (card.embedder is None) == (card.role == "detector")


SHARED = ("retinaface_mnet025", "scrfd_500m", "scrfd_2.5g", "yunet_n", "edgeface_xs_q")
SHARED += ("mobilefacenet_faceplugin", "mobilefacenet_foamliu")


@pytest.mark.parametrize("name", [*SHARED, *DEFAULT_PACK, "mobilefacenet_npm"])
def test_real_weights_are_as_their_card_says(
    name: str, real_models: Registry, real_card: Callable[[str], Card]
) -> None:
    card = real_card(name)
    session = open_session(real_models.find(card), "cpu")
    height, width = (256, 320) if card.input.size == "dynamic" else card.input.size[::-1]
    outputs = session.run(np.zeros((2, 3, height, width), np.float32))
    _check_outputs(card, [output.shape for output in outputs], height * width)


def _check_outputs(card: Card, shapes: list[tuple[int, ...]], area: int) -> None:
    if card.embedder is not None:
        assert shapes == [(2, card.embedder.dim)]
        return
    assert card.detector is not None
    per_cell = 1 if card.detector.family == "yunet" else 2
    cells = [per_cell * area // stride**2 for stride in card.detector.strides]
    rows = [sum(cells)] if card.detector.family == "retinaface" else cells
    values = {"box": 4, "points": 10}
    for role, positions in card.detector.outputs.items():
        found = [int(np.prod(shapes[position])) for position in positions]
        assert found == [2 * count * values.get(role, 1) for count in rows], role
