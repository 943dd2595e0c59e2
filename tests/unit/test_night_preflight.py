"""What is refused before a night begins: after it, a folder is begun and photos are in the gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from frpipe.core.errors import ConfigError, GalleryError, ModelMissing
from frpipe.core.night_config import NightConfig
from frpipe.gallery import lifecycle
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import vector_array
from frpipe.jobs.nightly.preflight import check
from frpipe.jobs.photo import spec_of

ON = {"enroll": {"enabled": True}, "dedup": {"enabled": False}}


def _config(root: Path, **sections: Any) -> NightConfig:
    places = {name: str(root / name) for name in ("runs", "gallery", "photos")}
    off = {name: {"enabled": False} for name in ("enroll", "consolidate", "identify", "drift")}
    return NightConfig.model_validate({**places, **off, **sections})


def test_an_embedder_without_a_threshold_needs_one_for_each_step_that_compares(tmp_path: Path) -> None:
    settings = {"embed": {"model": "opencv_sface_2021dec"}}
    with pytest.raises(ConfigError) as refused:
        check(_config(tmp_path, settings=settings))
    assert "dedup: there is no threshold" in refused.value.message
    assert "dedup.threshold" in refused.value.remedy
    check(_config(tmp_path, settings=settings, dedup={"threshold": 0.5}))
    check(_config(tmp_path, settings=settings, dedup={"enabled": False}))


def test_a_threshold_card_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    identify = {"probes": str(tmp_path), "gallery": {"threshold_card": str(tmp_path / "card.json")}}
    with pytest.raises(ConfigError, match=r"identify\.gallery: there is no threshold card"):
        check(_config(tmp_path, identify=identify))


def test_weights_that_are_not_here_are_missed_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRPIPE_CACHE", str(tmp_path))
    monkeypatch.delenv("FRPIPE_MODEL_DIR", raising=False)
    check(_config(tmp_path))
    with pytest.raises(ModelMissing):
        check(_config(tmp_path, enroll={"enabled": True}))


def test_nights_in_a_store_do_not_go_with_photos_on_a_disk(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="photos is a local folder"):
        check(_config(tmp_path, runs="memory://nights"))
    check(_config(tmp_path, runs="memory://nights", photos="memory://photos"))


def test_weighted_means_need_the_stage_that_measures_what_they_weigh_by(tmp_path: Path) -> None:
    how = {"consolidate": {"templates": "pose-mean"}}
    with pytest.raises(ConfigError, match="pose_yaw_deg") as refused:
        check(_config(tmp_path, **ON, **how))
    assert "settings.stages.quality.policy" in refused.value.remedy
    check(_config(tmp_path, dedup={"enabled": False}, consolidate={**how["consolidate"], "enabled": False}))


def test_a_gallery_of_weighted_means_takes_no_others_from_a_night(tmp_path: Path) -> None:
    config = _config(tmp_path, **ON, consolidate={"templates": "all"})
    spec = spec_of(config.settings)
    row = pa.table(
        {
            "subject_id": ["p"],
            "face_id": ["pose-mean:1"],
            "embedding": vector_array(np.eye(1, spec.dim)),
        }
    )
    gallery = Gallery.create(config.gallery, spec)
    lifecycle.enroll(gallery, [row], note='consolidate {"run": "r", "templates": "pose-mean"}')
    with pytest.raises(GalleryError, match="pose-mean") as refused:
        check(config)
    assert "consolidate.templates" in refused.value.remedy
