"""A gallery remembers its models: no command has to name them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from frpipe.core.config import Config, load_config
from frpipe.core.errors import GalleryMismatch
from frpipe.core.night_config import NightConfig
from frpipe.gallery.gallery import Gallery
from frpipe.io.output import run
from frpipe.jobs.going_on import for_gallery, for_night
from frpipe.jobs.photo import check_config, spec_of

OTHERS = ("detect.model=retinaface_mnet025", "embed.model=edgeface_xs_q")


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


@pytest.mark.parametrize("named", ["embed.model=sface_2021dec", "detect.model=yunet_2023mar"])
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


def test_nothing_is_said_where_nothing_changes() -> None:
    said: list[str] = []
    assert for_gallery(Config(), spec_of(Config()), said.append) == Config()
    assert not said
