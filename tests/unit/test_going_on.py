"""Galleries, outputs and nights remember their models: no command has to name them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from frpipe.core.config import Config, load_config
from frpipe.core.errors import GalleryMismatch
from frpipe.core.night_config import NightConfig
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.jobs.going_on import for_gallery, for_night, going_on
from frpipe.jobs.photo import check_config, spec_of
from frpipe.models.registry import Registry
from frpipe.stages.models import Models

OTHERS = ("detect.model=retinaface_mnet025", "embed.model=edgeface_xs_q")


def _recipe(*settings: str) -> dict[str, Any]:
    return Models.of(load_config(None, settings)).recipe.as_dict()


def test_a_gallery_is_gone_on_with_by_its_own_models() -> None:
    made = load_config(None, OTHERS)
    said: list[str] = []
    config = for_gallery(Config(), spec_of(made), said.append)
    assert (config.detect.model, config.embedder.model) == ("retinaface_mnet025", "edgeface_xs_q")
    check_config(config, spec_of(made))
    assert "retinaface_mnet025 and edgeface_xs_q" in said[0]


def test_settings_beside_the_models_stay() -> None:
    given = load_config(None, ["detect.policy=largest", "resources.embed.batch_rows=3"])
    config = for_gallery(given, spec_of(load_config(None, OTHERS)))
    assert (config.detect.policy, config.resources.embed.batch_rows) == ("largest", 3)


@pytest.mark.parametrize("named", ["embed.model=sface_2021dec", "detect.model=retinaface_mv1_025"])
def test_a_model_that_is_named_is_the_one_that_is_meant(named: str) -> None:
    """Also where it is the default: else a mistake would pass for a wish."""
    spec = spec_of(load_config(None, OTHERS))
    with pytest.raises(GalleryMismatch):
        check_config(for_gallery(load_config(None, [named]), spec), spec)


def test_a_night_goes_on_with_the_models_of_its_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launched again, it is the night that was begun."""
    Gallery.create(str(tmp_path / "G"), spec_of(load_config(None, OTHERS)))
    off = {name: {"enabled": False} for name in ("dedup", "identify", "drift")}
    places = {"runs": str(tmp_path / "R"), "gallery": str(tmp_path / "G"), "photos": str(tmp_path)}
    night = NightConfig.model_validate({**places, **off})
    first = for_night(night, "2026-01-01").settings
    begun = {"identity": {"recipe": first.recipe()}}
    monkeypatch.setattr(run, "begun", lambda _: begun)
    assert for_night(night, "2026-01-01").settings == first
    assert (first.detect.model, first.embedder.model) == ("retinaface_mnet025", "edgeface_xs_q")


def test_an_output_is_gone_on_with_by_its_own_detector() -> None:
    """Whatever the default has become since."""
    said: list[str] = []
    config = going_on(Config(), _recipe("detect.model=yunet_2023mar"), said.append)
    assert Models.of(config).recipe.as_dict() == _recipe("detect.model=yunet_2023mar")
    assert said == ["with the detector of the output: yunet_2023mar"]
    assert going_on(config, _recipe("detect.model=yunet_2023mar")) == config
    assert going_on(Config(), _recipe()) == Config()


def test_a_detector_that_is_named_is_kept_for_an_output_too() -> None:
    """So that whoever compares the recipes refuses it."""
    named = load_config(None, [f"detect.model={Config().detect.model}"])
    assert going_on(named, _recipe("detect.model=yunet_2023mar")) == named


def test_an_output_of_a_detector_that_is_gone_is_left_to_be_refused() -> None:
    begun = _recipe("detect.model=yunet_2023mar")
    begun["detector"]["sha256"] = "0" * 64
    assert going_on(Config(), begun) == Config()


def test_a_night_that_was_begun_goes_on_with_its_detector_before_there_is_a_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"runs": str(tmp_path / "R"), "gallery": str(tmp_path / "G"), "photos": str(tmp_path)}
    night = NightConfig.model_validate(
        {**places, **{name: {"enabled": False} for name in ("dedup", "identify", "drift")}}
    )
    assert for_night(night, "2026-01-01").settings == Config()
    begun = {"identity": {"recipe": load_config(None, OTHERS).recipe()}}
    monkeypatch.setattr(run, "begun", lambda _: begun)
    assert for_night(night, "2026-01-01").settings.recipe() == load_config(None, OTHERS).recipe()


def test_of_two_cards_of_one_file_the_one_that_made_the_gallery_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its facts may differ, and its name does: the gallery says by its hash which one it was."""
    card = Registry.default().card("scrfd_500m")
    assert card.detector is not None
    for name, nms_iou in (("aa", 0.3), ("zz", 0.35)):
        own = card.detector.model_copy(update={"nms_iou": nms_iou})
        plain = card.model_copy(update={"name": name, "detector": own}).model_dump(
            mode="json", exclude_none=True
        )
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(plain))
    monkeypatch.setenv("FRPIPE_CARD_DIR", str(tmp_path))
    for name in ("aa", "scrfd_500m", "zz"):
        spec = spec_of(load_config(None, [f"detect.model={name}"]))
        config = for_gallery(Config(), spec)
        assert config.detect.model == name
        check_config(config, spec)


def test_nothing_is_said_where_nothing_changes() -> None:
    said: list[str] = []
    assert for_gallery(Config(), spec_of(Config()), said.append) == Config()
    assert not said
