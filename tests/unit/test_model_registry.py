"""Cards and weights: found by name, in order, and never run unpinned or altered."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from model_graphs import card_fields, relu, sha256, write_card

from frpipe.cli import models as cli
from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, ModelError, ModelMismatch, ModelMissing
from frpipe.models import aliases
from frpipe.models.card import Card
from frpipe.models.registry import DEFAULT_PACK, Registry, read_card
from frpipe.models.session import open_session
from frpipe.stages.models import Models


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


@pytest.mark.parametrize(
    ("typed", "role", "name"),
    [
        ("ArcFace", "embedder", "arcface_buffalo_l"),
        ("arcface", "embedder", "arcface_buffalo_l"),
        ("buffalo_l", "embedder", "arcface_buffalo_l"),
        ("buffalo_l", "detector", "scrfd_10g_buffalo_l"),
        ("Buffalo-L", "detector", "scrfd_10g_buffalo_l"),
        ("RetinaFace", "detector", "retinaface_mv1_025"),
        ("retinaface", "detector", "retinaface_mv1_025"),
        ("YuNet", "detector", "yunet_2023mar"),
        ("SFace", "embedder", "sface_2021dec"),
        ("SCRFD", "detector", "scrfd_10g_buffalo_l"),
        ("AuraFace", "embedder", "auraface_v1"),
        ("EdgeFace", "embedder", "edgeface_xs_q"),
        ("SFACE-2021Dec", "embedder", "sface_2021dec"),
    ],
)
def test_a_common_name_leads_to_a_card(home: Path, typed: str, role: str, name: str) -> None:
    assert Registry.default().card_for(role, typed).name == name


def test_a_common_name_of_several_cards_names_them(home: Path) -> None:
    with pytest.raises(ModelError, match=r"AdaFace may be any of adaface_ir101 .*, adaface_ir18"):
        Registry.default().card_for("embedder", "AdaFace")
    with pytest.raises(ModelError, match="choose one of them"):
        run("pull", "AdaFace")
    pack = Registry.default().pack("buffalo_l")
    assert {card.name for card in pack} == {"arcface_buffalo_l", "scrfd_10g_buffalo_l"}


def test_a_pull_of_a_detector_brings_its_judge(home: Path) -> None:
    names = [card.name for card in Registry.default().pack("RetinaFace")]
    assert names == ["retinaface_mv1_025", "yunet_2023mar"]


def test_the_default_pack_is_all_that_the_default_configuration_needs() -> None:
    models = Models.of(Config())
    assert models.judge is not None
    assert set(DEFAULT_PACK) == {models.detector.name, models.judge.name, models.embedder.name}


def test_terms_of_one_of_several_name_the_command_for_all(home: Path) -> None:
    with pytest.raises(ModelError, match="non-commercial") as raised:
        run("pull", "buffalo_l")
    for name in ("arcface_buffalo_l", "scrfd_10g_buffalo_l", "--accept insightface-research"):
        assert name in raised.value.remedy


def test_a_card_of_the_user_goes_before_a_common_name(home: Path) -> None:
    write_card(home / "cards", card_fields("arcface", relu()))
    assert Registry.default().card_for("embedder", "arcface").sha256 == sha256(relu())


@pytest.mark.parametrize(
    ("typed", "near"),
    [("Facenet512", "arcface_buffalo_l"), ("VGG-Face", "sface_2021dec"), ("mtcnn", "retinaface_mv1_025")],
)
def test_a_name_of_other_libraries_brings_what_is_near(home: Path, typed: str, near: str) -> None:
    with pytest.raises(ModelError, match=f"no {typed}") as raised:
        Registry.default().card(typed)
    assert near in raised.value.remedy


def test_a_name_like_no_other_brings_the_list(home: Path) -> None:
    with pytest.raises(ModelError) as raised:
        Registry.default().card("zzzzzz")
    assert raised.value.remedy == "`frpipe models list` shows them all"


def test_every_name_that_a_message_calls_near_is_a_card() -> None:
    words = re.findall(r"[a-z0-9]+_[a-z0-9_]+", " ".join(aliases._NEAR.values()))
    assert words
    assert set(words) <= set(Registry.default().cards())


def test_a_configuration_takes_common_names(home: Path) -> None:
    typed = Config.model_validate({"detect": {"model": "RetinaFace"}, "embed": {"model": "SFace"}})
    assert Models.of(typed) == Models.of(Config())
    assert Models.of(typed).recipe == Models.of(Config()).recipe
    twice = Config.model_validate({"embed": [{"model": "SFace"}, {"model": "sface_2021dec"}]})
    with pytest.raises(ConfigError, match="a model of its own"):
        Models.of(twice)


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


def test_list_says_what_is_here_and_how_to_get_the_rest(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "weights" / "w600k_mbf.onnx").write_bytes(b"x" * 2_000_000)
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tiny"]["state"] == "bring"
    assert rows["tiny"]["command"] is None
    assert "tiny.onnx in a folder named in FRPIPE_MODEL_DIR" in rows["tiny"]["how_to_get"]
    arcface = rows["arcface_buffalo_l"]
    assert (arcface["dim"], arcface["state"], arcface["size_bytes"]) == (512, "pull", 174_383_860)
    assert arcface["command"] == "frpipe models pull arcface_buffalo_l --accept insightface-research"
    assert arcface["terms"]["name"] == "insightface-research"
    assert arcface["licence_of_code"] == "MIT"
    assert rows["arcface_buffalo_s"]["state"] == "here"
    assert rows["arcface_buffalo_s"]["where"] == str(home / "weights" / "w600k_mbf.onnx")
    assert run("list") == 0
    groups = [group.splitlines() for group in capsys.readouterr().out.split("\n\n")]
    here, away, brought = groups[:3]
    assert here[0] == "here:"
    assert [line.split()[0] for line in here[2:]] == ["arcface_buffalo_s"]
    assert away[1].split() == ["name", "role", "dim", "size", "licence", "command"]
    line = next(line for line in away if "arcface_buffalo_l" in line)
    assert "174 MB" in line
    assert line.endswith("frpipe models pull arcface_buffalo_l --accept insightface-research")
    assert brought[0].startswith("to be brought")
    assert next(line for line in brought if "tiny" in line).endswith("tiny.onnx")


def test_list_tells_all_of_one_model(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "buffalo_l") == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if not line.startswith(" ")] == [
        "arcface_buffalo_l",
        "",
        "scrfd_10g_buffalo_l",
    ]
    assert "licence of the code: MIT" in told
    assert "licence of the weights: InsightFace" in told


def test_pull_refuses_terms_before_it_fetches_anything(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {"kind": "uri", "uri": str(home / "origin.onnx")}
    (home / "origin.onnx").write_bytes(relu())
    write_card(home / "cards", card_fields("tiny", relu(), source=source, licence_of_code="MIT"))
    with pytest.raises(ModelError, match="non-commercial research") as raised:
        run("pull", "tiny", "ArcFace")
    assert "--accept insightface-research" in raised.value.remedy
    assert not (home / "cache" / "models").exists()
    assert run("pull", "tiny") == 0
    told = capsys.readouterr().out
    assert "licence of the code: MIT\n  licence of the weights: none\n" in told


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


def test_every_card_with_an_address_pins_what_comes() -> None:
    for card in Registry.default().cards().values():
        if card.source.kind == "uri":
            assert card.source.uri.startswith("https://")
            assert card.source.member is None or card.source.sha256
        if "InsightFace" in card.licence:
            assert card.source.kind == "bring" or card.terms


def test_every_card_is_whole_and_honest() -> None:
    for card in Registry.default().cards().values():
        assert len(card.limits) > 40
        assert len(card.training_data) > 40
        assert (card.detector is None) == (card.role != "detector")
        assert (card.embedder is None) == (card.role != "embedder")


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
    values = {"box": 4, "points": 10, "classes": 2}
    for role, positions in card.detector.outputs.items():
        found = [int(np.prod(shapes[position])) for position in positions]
        assert found == [2 * count * values.get(role, 1) for count in rows], role
