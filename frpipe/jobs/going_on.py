"""What was begun with other models, or with a single look at photos, goes on so unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from frpipe.core.config import Config
from frpipe.core.night_config import NightConfig
from frpipe.core.recipe import SINGLE_LOOK
from frpipe.core.schema import LATER_COLUMNS
from frpipe.gallery.gallery import GALLERY, Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.features import card_name
from frpipe.stages.models import Models

Say = Callable[[str], None]
_SAID = (
    "this was begun when photos were looked at once, and goes on so: turned and small faces are not looked "
    "at again, and no times of capture are read (docs/turned-and-small.md)"
)


def going_on(config: Config, begun: Mapping[str, Any] | None, say: Say = lambda _: None) -> Config:
    """The configuration for an output whose run.json holds the recipe `begun`; None where nothing was begun.

    A recipe of a single look is kept where the configuration says nothing of turns, refinement or the size of
    faces. Where it does, it stays, and whoever compares recipes refuses it.
    """
    if not begun or begun.get("algorithm") != SINGLE_LOOK or config.detect.chooses_looks:
        return config
    if Models.of(config).recipe.algorithm != SINGLE_LOOK:
        say(_SAID)
    return config.single_look()


def columns_of(begun: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The later columns of `faces` for an output whose run.json holds the recipe `begun`; None: a new one."""
    return LATER_COLUMNS if not begun else tuple(n for n in LATER_COLUMNS if n in begun.get("columns", ()))


def for_gallery(config: Config, gallery: GallerySpec, say: Say = lambda _: None) -> Config:
    """The configuration for a gallery.

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
    """The same configuration, with the models of a gallery for those that it does not name."""
    detect, embed = config.detect, config.embedder
    recipe = Models.of(config).recipe
    if "model" not in detect.model_fields_set and recipe.detector_hash != gallery.detector_hash:
        detect = detect.model_copy(update={"model": card_name(gallery.detector_hash) or detect.model})
    if "model" not in embed.model_fields_set and recipe.embedder_hash != gallery.embedder_hash:
        embed = embed.model_copy(update={"model": card_name(gallery.embedder_hash) or embed.model})
    if (detect.model, embed.model) == (config.detect.model, config.embedder.model):
        return config
    say(f"with the models of the gallery: {detect.model} and {embed.model}")
    return config.model_copy(update={"detect": detect, "embed": (embed, *config.embed[1:])})


def _makes(config: Config, gallery: GallerySpec) -> bool:
    return Models.of(config).recipe.preprocessing_hash == gallery.preprocessing_hash


def for_gallery_at(config: Config, uri: str, say: Say = lambda _: None) -> Config:
    """As `for_gallery`; the configuration itself where there is no gallery yet."""
    return for_gallery(config, Gallery.open(uri).spec, say) if Folder.at(uri).exists(GALLERY) else config


def for_night(config: NightConfig, date: str, say: Say = lambda _: None) -> NightConfig:
    """The configuration of a night: with the recipe that it, or the gallery of the nights, was begun with."""
    begun = run.begun(Folder.at(config.runs).child(date)).get("identity", {})
    settings = config.settings
    if begun and Folder.at(config.gallery).exists(GALLERY):
        settings = _with_models_of(Gallery.open(config.gallery).spec, settings, say)
    if begun and "turns" not in begun.get("recipe", {}).get("detect", {}):
        settings = going_on(settings, {"algorithm": SINGLE_LOOK}, say)
    elif not begun:
        settings = for_gallery_at(settings, config.gallery, say)
    return config.model_copy(update={"settings": Models.of(settings).config})
