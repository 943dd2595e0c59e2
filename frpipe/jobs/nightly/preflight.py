"""Check a configuration before the night begins, so that it does not fail after hours of work."""

from __future__ import annotations

from collections.abc import Iterator

from frpipe.core.errors import ConfigError, GalleryMismatch
from frpipe.core.night_config import NightConfig, ThresholdSettings
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.spec import GallerySpec
from frpipe.gallery.weights import WEIGHED_BY
from frpipe.io.storage import uri as uris
from frpipe.jobs.consolidate.job import check_gallery
from frpipe.jobs.consolidate.kinds import kept_kind
from frpipe.jobs.enroll.job import run_spec
from frpipe.jobs.face_gate import FaceGate
from frpipe.jobs.nightly.searches import card_of
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.photo import embedder_card, spec_of
from frpipe.matching.threshold import threshold_of


def check(config: NightConfig) -> None:
    """Refuse a configuration with which the night would fail.

    That is one with places that a submitted job would lose or that do not go together, a missing model, a
    gallery of another recipe or with another kind of weighted means, a step without a threshold, or a gate on
    measures that no stage takes. Raises ConfigError, GalleryError or ModelError.
    """
    watched = config.identify.watch_list.uri if config.identify.enabled else None
    places = {
        "runs": config.runs,
        "gallery": config.gallery,
        "photos": config.photo_place if config.photos is not None else None,
        "identify.probes": config.identify.probes,
        "identify.watch_list.uri": watched,
        "publish.tables": config.publish.tables,
    }
    for setting, uri in places.items():
        if uri is not None:
            refuse_relative(setting, uri)
    _refuse_apart(config)
    if config.consolidate.enabled:
        _check_gate(config)
    spec = spec_of(config.settings)
    there = check_gallery(config.gallery, spec)
    _check_kind(config, there)
    if watched is not None and not check_gallery(watched, spec):
        raise ConfigError("there is no gallery at identify.watch_list.uri", "check the path")
    if config.enroll.enabled or (config.identify.enabled and config.identify.probes is not None):
        run_spec(config.settings, "")
    for setting, chosen in _thresholds(config):
        _check_threshold(setting, chosen, spec)


def _check_kind(config: NightConfig, there: bool) -> None:
    """Refuse weighted means without a stage that weighs them, and another kind than the gallery has."""
    how = config.consolidate
    if not (config.enroll.enabled and how.enabled):
        return
    if how.templates in WEIGHED_BY and "quality" not in config.settings.stages:
        raise ConfigError(
            f"consolidate.templates {how.templates} weighs faces by {WEIGHED_BY[how.templates]}, which no "
            "stage of this night measures",
            "set settings.stages.quality.policy: flag, or consolidate.templates: mean",
        )
    if there:
        kept_kind(Gallery.open(config.gallery), how.templates, how.policy)


def _refuse_apart(config: NightConfig) -> None:
    """Refuse local photos with nights in a store: a manifest in a store may not name local photos."""
    read = {
        "photos": config.photo_place if config.scan.enabled else None,
        "identify.probes": config.identify.probes if config.identify.enabled else None,
    }
    for setting, uri in read.items():
        if uri is not None and uris.is_local(uri) and not uris.is_local(config.runs):
            raise ConfigError(
                f"{setting} is a local folder and runs a store: its manifest may not name local photos",
                "put the nights into a local folder, or the photos into the store",
            )


def _check_gate(config: NightConfig) -> None:
    """Refuse a gate whose measures no stage of the night takes."""
    for stage in FaceGate.of(config.consolidate.gates).stages:
        if stage not in config.settings.stages:
            raise ConfigError(
                f"consolidate.gates has limits on measures of the stage {stage}, which is off",
                f"switch it on with settings.{stage}.policy: flag; or leave the limits out",
            )


def _thresholds(config: NightConfig) -> Iterator[tuple[str, ThresholdSettings]]:
    identify = config.identify
    if config.dedup.enabled:
        yield "dedup", config.dedup
    if identify.enabled and identify.gallery.enabled:
        yield "identify.gallery", identify.gallery
    if identify.enabled and identify.watch_list.uri is not None:
        yield "identify.watch_list", identify.watch_list


def _check_threshold(setting: str, chosen: ThresholdSettings, spec: GallerySpec) -> None:
    try:
        threshold_of(
            spec.embedder_hash,
            given=chosen.threshold,
            card=card_of(chosen),
            embedder_card=embedder_card(spec),
            preprocessing=spec.preprocessing_hashes,
        )
    except (ConfigError, GalleryMismatch) as error:
        raise type(error)(
            f"{setting}: {error.message}",
            f"set {setting}.threshold, a similarity, or {setting}.threshold_card; see docs/thresholds.md",
        ) from None
