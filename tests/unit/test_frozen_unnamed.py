"""What earlier code left is gone on with by configurations that name no detector, whatever the default is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import frozen
import pytest
from frozen import NIGHTS, THRESHOLD, Frozen

from frpipe.cli.main import main
from frpipe.core.config import Config, load_config
from frpipe.core.errors import GalleryMismatch, OutputError
from frpipe.core.night_config import NightConfig, load_night
from frpipe.gallery.gallery import Gallery
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.going_on import for_gallery, for_night
from frpipe.jobs.nightly.plan import night_plan
from frpipe.jobs.photo import spec_of

# An output goes on with its own detector; its embedders are named, or the default ones.
UNNAMED = (f"embed.model={frozen.EMBEDDER}", "resources.part_rows=4")
NAMED = "detect.model=retinaface_mv1_025"
LIMITS = (
    "decode.max_bytes=1000000",
    "decode.max_pixels=2000000",
    "decode.min_side_px=20",
    "decode.truncated=accept",
)


@pytest.fixture
def home() -> Iterator[Frozen]:
    with frozen.at_home() as found:
        yield found


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[Frozen]:
    with frozen.copied(tmp_path / "frozen") as found:
        yield found


def test_a_finished_output_is_complete_and_a_half_one_is_planned(home: Frozen) -> None:
    config, said = load_config(None, UNNAMED), []
    photos = str(home / "photos.csv")
    report = Enrollment(photos, str(home / "enroll-finished"), config, say=said.append).run()
    assert said[0] == f"with the detector of the output: {frozen.DETECTOR}"
    assert said[-1] == "this run is complete already: nothing to do"
    assert report.rows == 11
    planned = Enrollment(photos, str(home / "enroll-half"), config).dry_run().text()
    assert f"detector  {frozen.DETECTOR}" in planned


def test_a_detector_that_is_named_is_refused_for_them(home: Frozen) -> None:
    named = load_config(None, [*UNNAMED, f"detect.model={_other(home)}"])
    for name in ("enroll-finished", "enroll-half"):
        with pytest.raises(OutputError, match=r'detect\.model was "tiny_yunet", is "other_yunet"'):
            Enrollment(str(home / "photos.csv"), str(home / name), named).run()


def test_a_night_goes_on_and_so_does_the_next_one(home: Frozen) -> None:
    night = _night(home)
    for date in NIGHTS:
        settings = for_night(night, date).settings
        assert (settings.detect.model, settings.embedder.model) == (frozen.DETECTOR, frozen.EMBEDDER)
        assert settings.detect.is_single_look
    assert "done already" in night_plan(night, NIGHTS[1]).text()
    for date in NIGHTS[1:]:
        with pytest.raises(GalleryMismatch, match="detector"):
            night_plan(_night(home, NAMED), date)


@pytest.mark.parametrize("name", ["gallery-plain", "gallery-encrypted"])
def test_a_gallery_is_searched_with_its_models(
    name: str, copy: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["identify", str(copy / "photos/bela-1.png"), "--gallery", str(copy / name)]
    words += ["--threshold", str(THRESHOLD)]
    assert main([*words, "--json"]) == 0
    assert '"subject_id": "bela"' in capsys.readouterr().out
    assert main([*words, "--set", NAMED]) == 10
    assert f"--set detect.model={frozen.DETECTOR}" in capsys.readouterr().err


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_keeps_no_features_out_of_a_gallery_of_a_single_look(limit: str, copy: Frozen) -> None:
    """Its hash counts the limits, as it did when it was made."""
    gallery = Gallery.open(str(copy / "gallery-plain")).spec
    config = for_gallery(load_config(None, [limit]), gallery)
    assert config.detect.is_single_look
    own = spec_of(config)
    assert own.preprocessing_hash != gallery.preprocessing_hash
    gallery.check_same(own)
    FeatureRun.open(str(copy / "enroll-probes")).spec.check_same(own)


@pytest.mark.parametrize(
    "setting", ["detect.turns=auto", "detect.refine=auto", "detect.max_side_px=320", "embed.flip=true"]
)
def test_what_changes_a_vector_keeps_them_out_with_and_without_limits(setting: str, copy: Frozen) -> None:
    gallery = Gallery.open(str(copy / "gallery-plain")).spec
    for limits in ((), LIMITS):
        own = spec_of(for_gallery(load_config(None, [*limits, setting]), gallery))
        with pytest.raises(GalleryMismatch, match="preprocessing"):
            gallery.check_same(own)


def test_a_gallery_made_anew_says_the_hashes_without_limits(copy: Frozen) -> None:
    """So that its vectors meet those of any limits, and those of galleries and features of before."""
    spec = spec_of(load_config(None, [*frozen.settings(), *LIMITS]).single_look())
    made = Gallery.open(Gallery.create(str(copy / "new"), spec).uri).spec
    assert made.same_vectors == spec.same_vectors
    made.check_same(FeatureRun.open(str(copy / "enroll-probes")).spec)
    made.check_same(Gallery.open(str(copy / "gallery-plain")).spec)
    made.check_same(spec_of(load_config(None, [*frozen.settings(), "decode.max_bytes=99"]).single_look()))


def _other(home: Frozen) -> str:
    """The name of a further card of the same weights."""
    card, name = (home / f"cards/{frozen.DETECTOR}.yaml").read_text(), "other_yunet"
    (home / f"cards/{name}.yaml").write_text(card.replace(f"name: {frozen.DETECTOR}", f"name: {name}"))
    return name


def _night(home: Frozen, *settings: str) -> NightConfig:
    named = load_night(home / "night.yaml")
    unnamed = load_config(None, ["resources.part_rows=2", *settings])
    return named.model_copy(update={"settings": unnamed})


def test_the_default_is_another_detector_than_that_of_the_fixtures() -> None:
    assert Config().detect.model != frozen.DETECTOR
