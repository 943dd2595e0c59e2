"""What is refused before a night begins, rather than after hours of work."""

from __future__ import annotations

from frpipe.core.errors import ConfigError
from frpipe.core.night_config import NightConfig
from frpipe.flows.consolidate import check_gallery
from frpipe.flows.output_place import refuse_relative
from frpipe.flows.photo import spec_of


def check(config: NightConfig) -> None:
    """Raise for places that a submitted job would lose, a missing model, or a gallery of another recipe."""
    watched = config.identify.watch_list.uri if config.identify.enabled else None
    places = {
        "runs": config.runs,
        "gallery": config.gallery,
        "photos": config.photos,
        "identify.probes": config.identify.probes,
        "identify.watch_list.uri": watched,
    }
    for setting, uri in places.items():
        if uri is not None:
            refuse_relative(setting, uri)
    spec = spec_of(config.settings)
    check_gallery(config.gallery, spec)
    if watched is not None and not check_gallery(watched, spec):
        raise ConfigError("there is no gallery at identify.watch_list.uri", "check the path")
