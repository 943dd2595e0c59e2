"""Continue what was begun with other models, or with a single look, in that way unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from frpipe.core.config import Config, DetectConfig, EmbedConfig
from frpipe.core.night_config import NightConfig
from frpipe.core.recipe import SINGLE_LOOK
from frpipe.core.schema import LATER_COLUMNS
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import card_names
from frpipe.jobs.output_place import output_place
from frpipe.jobs.photo import spec_of
from frpipe.stages.models import Models

Say = Callable[[str], None]
_SAID = (
    "this was begun when photos were looked at once, and goes on so: turned and small faces are not looked "
    "at again, and no times of capture are read (docs/turned-and-small.md)"
)


def going_on(config: Config, begun: Mapping[str, Any] | None, say: Say = lambda _: None) -> Config:
    """Make the configuration for an output whose run.json holds the recipe `begun`; None: a new output.

    Its detector, where the configuration names none. A recipe of a single look is kept where the
    configuration says nothing of turns, refinement or the size of faces. Where it does, it stays, and whoever
    compares recipes refuses it.
    """
    if not begun:
        return config
    config = with_detector_of(begun, config, say)
    return _as_before(config, say) if begun.get("algorithm") == SINGLE_LOOK else config


def for_output(config: Config, uri: str, say: Say = lambda _: None) -> Config:
    """Make the configuration for the output at an address, begun or not, as `going_on` does."""
    return going_on(config, run.begun(output_place(uri)).get("identity", {}).get("recipe"), say)


def _as_before(config: Config, say: Say) -> Config:
    if config.detect.chooses_looks:
        return config
    if Models.of(config).recipe.algorithm != SINGLE_LOOK:
        say(_SAID)
    return config.single_look()


def columns_of(begun: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The later columns of `faces` for an output whose run.json holds the recipe `begun`; None: a new one."""
    return LATER_COLUMNS if not begun else tuple(n for n in LATER_COLUMNS if n in begun.get("columns", ()))


def with_detector_of(begun: Mapping[str, Any], config: Config, say: Say = lambda _: None) -> Config:
    """Take the detector of a recipe where the configuration names none."""
    name = begun["settings"]["detect"]["model"]
    if "model" in config.detect.model_fields_set or config.detect.model == name:
        return config
    sha256 = begun["detector"]["sha256"]
    names = card_names(sha256)
    found = name if name in names else next(iter(names), None)
    if found is None:
        return config
    say(f"with the detector of the output: {found}")
    return config.with_models(found, [each.model for each in config.embed])


def for_gallery(config: Config, gallery: GallerySpec, say: Say = lambda _: None) -> Config:
    """Make the configuration for a gallery.

    The gallery's own models, where the configuration names none; and a single look, if that made its vectors
    and is not ruled out.
    """
    config = _with_models_of(gallery, config, say)
    if config.detect.chooses_looks:
        return config
    if _makes(config, gallery) or not _makes(single := config.single_look(), gallery):
        return config
    say(_SAID)
    return single


def _with_models_of(gallery: GallerySpec, config: Config, say: Say) -> Config:
    """Take the models of a gallery where the configuration names none.

    Of several cards with the gallery's weights, those by which its vectors are made.
    """
    if _fits(config, gallery):
        return config
    detectors = _choice(config.detect, gallery.detector_hash)
    embedders = _choice(config.embedder, gallery.embedder_hash)
    further = [each.model for each in config.embed[1:]]
    candidates = [
        config.with_models(detector, [embedder, *further])
        for detector, embedder in product(detectors, embedders)
    ]
    found = next((each for each in candidates if _fits(each, gallery)), candidates[0])
    if found != config:
        say(f"with the models of the gallery: {found.detect.model} and {found.embedder.model}")
    return found


def _choice(section: DetectConfig | EmbedConfig, sha256: str) -> list[str]:
    """The names of cards with a gallery's weights, or the configured one, if named or if there are none."""
    names = [] if "model" in section.model_fields_set else card_names(sha256)
    return sorted(names, key=lambda name: name != section.model) or [section.model]


def _fits(config: Config, gallery: GallerySpec) -> bool:
    """Whether a configuration, as it is or with a single look, has the gallery's models."""
    own = spec_of(config)
    if (own.detector_hash, own.embedder_hash) != (gallery.detector_hash, gallery.embedder_hash):
        return False
    return _makes(config, gallery) or _makes(config.single_look(), gallery)


def _makes(config: Config, gallery: GallerySpec) -> bool:
    return spec_of(config).same_preprocessing(gallery)


def for_gallery_at(config: Config, uri: str, say: Say = lambda _: None) -> Config:
    """Make the configuration for the gallery at an address; unchanged where there is none yet."""
    return for_gallery(config, Gallery.open(uri).spec, say) if Folder.at(uri).exists(GALLERY) else config


def for_night(config: NightConfig, date: str, say: Say = lambda _: None) -> NightConfig:
    """Make the configuration of a night: with the recipe that it, or the gallery, was begun with."""
    begun = run.begun(Folder.at(config.runs).child(date)).get("identity", {})
    if begun:
        settings = _as_begun(config.settings, begun.get("recipe", {}), say)
    else:
        settings = for_gallery_at(config.settings, config.gallery, say)
    return config.model_copy(update={"settings": Models.of(settings).config})


def _as_begun(settings: Config, recipe: Mapping[str, Any], say: Say) -> Config:
    """Set a night's settings as it was begun. recipe: the settings that decide its content."""
    detect, embed = recipe.get("detect", {}), recipe.get("embed", {})
    detector, embedders = settings.detect.model, [each.model for each in settings.embed]
    if "model" not in settings.detect.model_fields_set:
        detector = detect.get("model", detector)
    if isinstance(embed, Mapping) and "model" not in settings.embedder.model_fields_set:
        embedders[0] = embed.get("model", embedders[0])
    chosen = settings.with_models(detector, embedders)
    if chosen is not settings:
        say(f"with the models that the night began with: {detector} and {embedders[0]}")
    return chosen if "turns" in detect else _as_before(chosen, say)
