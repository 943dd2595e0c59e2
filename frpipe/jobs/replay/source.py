"""The finished run whose rejected rows are done again: its files, its recipe, its settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import OutputError
from frpipe.core.pulse import Say, silent, told
from frpipe.core.recipe import Recipe
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.plan import ManifestPlan, load_plan
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.in_order import in_order
from frpipe.jobs.features import FeatureRun, flat
from frpipe.stages.stage import stage_classes

MAY_CHANGE = frozenset(
    f"settings.decode.{name}" for name in ("max_bytes", "max_pixels", "min_side_px", "truncated", "plugins")
)
"""Settings of the recipe that decide which photos are taken, and no number of one that was taken before.

The gates of the run's stages (`FaceStage.gates`) are such settings, too."""
_PLUGINS = "settings.decode.plugins"


class Selection(Protocol):
    """A selection of rows; `str` says in words what it selects."""

    @property
    def causes(self) -> frozenset[str]:
        """The causes for which rows are done again: they name the selection."""

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """Mark the images of a published part that are meant, (rows,) bool; only needed columns are read."""

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """Mark the images that are meant, (rows,) bool, of tables that were read."""


@dataclass(frozen=True, slots=True)
class ReplaySource:
    """The source of a replay.

    digest: SHA-256 of its files.json, which stands for its content.  identity: as in its run.json.
    replays: the records of earlier ones, oldest first.
    """

    files: ListedFiles
    digest: str
    identity: dict[str, Any]
    plan: ManifestPlan
    manifest: str
    created: datetime
    replays: list[dict[str, Any]]

    @classmethod
    def open(cls, uri: str) -> ReplaySource:
        """Open a run. Raises OutputError where there is no finished enroll run."""
        found = FeatureRun.open(uri)
        return cls(
            files=ListedFiles.of(found.folder),
            digest=run.digest(found.folder),
            identity=run.begun(found.folder)["identity"],
            plan=load_plan(found.folder),
            manifest=found.manifest,
            created=found.created,
            replays=json.loads(found.folder.read(run.REPORT)).get("replays", []),
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe that made the run's vectors."""
        return Recipe.stored(self.identity["recipe"])

    @property
    def changed_before(self) -> frozenset[str]:
        """The names of the settings that earlier replays have changed for what they did again."""
        return frozenset(name for record in self.replays for name in record.get("settings", ()))

    def changes(self, recipe: Recipe) -> dict[str, Any]:
        """The settings of another recipe that differ and may, by name.

        Raises OutputError, naming what differs, where its vectors could not stand beside ours.
        """
        theirs = flat(self.identity["recipe"]) | {"schema_version": self.identity["schema_version"]}
        ours = flat(json.loads(json.dumps(recipe.as_dict()))) | {"schema_version": recipe.schema_version}
        differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
        may_change = MAY_CHANGE | _gates(recipe)
        refused = [name for name in differing if name not in may_change]
        if _PLUGINS in differing and not _extends(ours[_PLUGINS], theirs[_PLUGINS]):
            refused.append(_PLUGINS)
        if refused:
            said = (
                f"{n.removeprefix('settings.')} was {theirs.get(n)}, is {ours.get(n)}" for n in refused[:5]
            )
            raise OutputError(
                "a replay must keep the recipe of its run, or unlike vectors would be mixed: "
                + "; ".join(said),
                "leave these settings out, or enroll the whole manifest anew: "
                f"frpipe run enroll --manifest {self.manifest} --output OTHER",
            )
        return {name.removeprefix("settings."): ours[name] for name in differing}

    def hits(self, selection: Selection, say: Say = silent) -> dict[int, int]:
        """Count the chosen rows of each part; parts without one are left out. say: told how far it is."""
        features = Features(self.files.folder)

        def count(part: int) -> int:
            return int(pc.sum(selection.in_part(features, part)).as_py() or 0)

        parts = self.plan.parts
        counts = told(in_order(count, range(parts)), parts, f"{{}} of {parts:,} parts looked through", say)
        return {part: rows for part, rows in enumerate(counts) if rows}


def _gates(recipe: Recipe) -> set[str]:
    """The gates of the stages of a recipe, by their names in it."""
    stages = stage_classes([*recipe.stages]) if recipe.stages else ()
    return {f"settings.stages.{stage.name}.{gate}" for stage in stages for gate in stage.gates}


def _extends(longer: list[str], shorter: list[str]) -> bool:
    return longer[: len(shorter)] == shorter
