"""The configuration of a night: which steps, on which folders, and what counts as a bad night.

What decides the content of a night's folder is its identity (`NightConfig.identity`). Gates, lease, retention
and prices are not part of it: they may change between two launches of the same night.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from frpipe.core.cache_size import DEFAULT_CACHE_MB
from frpipe.core.config import (
    AboveZero,
    AtLeastOne,
    Config,
    ExecutorChoice,
    Section,
    Share,
    explained,
    read_settings,
)
from frpipe.core.face_gates import FaceGates
from frpipe.core.kernel_names import Wish

STEPS = ("scan", "enroll", "consolidate", "dedup", "identify", "drift")
# Settings that older nights do not have: part of the identity only where they are not these.
_LATER: dict[str, dict[str, Any]] = {
    "scan": {"exclude": [], "system": False},
    "consolidate": {
        "source": None,
        "same_photos": False,
        "strict": False,
        "vanished": "keep",
        "gates": FaceGates().model_dump(),
    },
}
_NOT_CONTENT: dict[str, Any] = {
    **dict.fromkeys(
        ("runs", "publish", "gates", "lease", "retention", "cost", "execution", "report", "settings"), True
    ),
    "consolidate": {"merge_shards_over", "forms"},
}


class Step(Section):
    """A step that can be switched off."""

    enabled: bool = Field(True, description="whether the step is done")


class ScanStep(Step):
    """Settings of the scan, which lists the photos and finds the new ones."""

    glob: str | None = Field(
        None, description="only paths that match, below `photos`; `*` stops at `/`, `**` does not"
    )
    exclude: list[str] = Field(
        [], description="patterns of files and folders to leave out: by name, or with a `/` by path"
    )
    system: bool = Field(
        False, description="whether to take what systems make, too (`@eaDir`, `#recycle`), and what is hidden"
    )
    subject_from: Literal["auto", "folder", "none"] = Field(
        "auto", description="whose photo it is; auto: the folder's name if every photo lies one folder down"
    )


class ConsolidateStep(Step):
    """Settings of consolidation: tonight's faces into the gallery."""

    policy: Literal["skip", "append", "replace"] = Field(
        "append", description="for a person who is there already"
    )
    templates: Literal["all", "mean", "quality-mean", "quality-score-mean", "pose-mean", "medoid"] = Field(
        "all", description="what to keep of a person's vectors of one night"
    )
    faces: Literal["centre-largest", "largest", "require-one"] = Field(
        "centre-largest", description="which face of a photo is its subject's"
    )
    source: str | None = Field(
        None, description="goes, with a slash, before the ids of the photos in the gallery; null: nothing"
    )
    same_photos: bool = Field(
        False, description="photos that lay at another place before are the same, though they have changed"
    )
    vanished: Literal["keep", "remove"] = Field(
        "keep", description="what becomes of the templates of photos that have vanished"
    )
    strict: bool = Field(False, description="end with an error where a new face does not fit its person")
    gates: FaceGates = FaceGates()
    merge_shards_over: int | None = Field(
        8, ge=4, description="join small shards of the gallery where there are more; null: never"
    )
    forms: bool = Field(
        False,
        description="whether tonight's templates are stored in the form of `subspace` and its like at once, "
        "and not by the first search",
    )


class ThresholdSettings(Section):
    """Settings that name a threshold: a number, a threshold card, or neither for the embedder's card."""

    threshold: float | None = Field(None, ge=-1, le=1, description="similarity; null: the card's")
    threshold_card: str | None = Field(None, description="a threshold card, JSON; null: the embedder's")

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.threshold is not None and self.threshold_card is not None:
            raise ValueError("give threshold or threshold_card, not both")
        return self


class DedupStep(Step, ThresholdSettings):
    """Settings of deduplication: who is enrolled twice. Last night's result is carried on where it can be."""

    max_pairs: AtLeastOne = Field(10_000_000, description="give up where more are found")


class GallerySearch(Step, ThresholdSettings):
    """Settings of a search of probes in the gallery as it was before tonight."""


class WatchListSearch(ThresholdSettings):
    """Settings of a search of probes in another gallery."""

    uri: str | None = Field(None, description="a gallery; null: none is searched")


class IdentifyStep(Step):
    """Settings of identification: who is on tonight's photos, or on those of a folder of probes."""

    probes: str | None = Field(None, description="folder of probe photos; null: tonight's new photos")
    top: AtLeastOne = Field(10, description="candidates a probe")
    gallery: GallerySearch = GallerySearch()
    watch_list: WatchListSearch = WatchListSearch()


class DriftStep(Step):
    """Settings of drift: whether tonight's numbers are distributed as those of the nights before."""

    nights: AtLeastOne = Field(7, description="finished nights that tonight is compared with")
    least_values: AtLeastOne = Field(
        200, description="with fewer values on either side it says: insufficient data"
    )
    least_distance: Share = Field(
        0.05, description="a smaller distance counts as steady, of however many values"
    )


class PublishStep(Section):
    """Settings of publishing finished nights into tables that data engineers query."""

    tables: str | None = Field(
        None, description="folder or prefix of the tables; null: nights are not published"
    )
    layout: Literal["delta", "parquet"] | None = Field(
        None, description="settled by the first publication; null: as the tables are, or delta"
    )
    embeddings: bool | None = Field(
        None, description="whether faces have their vectors; settled by the first; null: as they are, or true"
    )
    target_mb: AtLeastOne = Field(256, description="MB that the rows of a large file take in memory")
    keep_hours: float | None = Field(
        None, ge=0, description="how long replaced files stay; null: 168 of delta, else 0"
    )


class Gates(Section):
    """Limits that a good night meets; null: not asked. The first three also keep a night from the gallery."""

    max_reject_ratio: Share | None = Field(
        None, description="rejected photos of tonight's; above it nothing reaches the gallery"
    )
    max_no_face_ratio: Share | None = Field(
        None, description="photos without a face of tonight's; above it nothing reaches the gallery"
    )
    max_vanished_ratio: Share | None = Field(
        0.5, description="vanished photos of those known before; above it nothing reaches the gallery"
    )
    max_vanished: int | None = Field(None, ge=0, description="vanished photos")
    min_photos: int | None = Field(None, ge=0, description="tonight's photos")
    max_new_duplicates: int | None = Field(None, ge=0, description="clusters that are new or have grown")
    max_drift: Share | None = Field(
        None, description="Kolmogorov-Smirnov distance of any measure that has enough values"
    )


class Cost(Section):
    """Prices of nodes, for the report."""

    node_hour: AboveZero | None = Field(None, description="price of one node for an hour; null: not shown")
    currency: str = Field("EUR", description="of that price")


class LeaseConfig(Section):
    """Settings of the lease, which keeps two nights apart."""

    expires_s: AboveZero = Field(
        60.0, description="a night whose heartbeat has stood still for so long is taken for dead"
    )


class Retention(Section):
    """Settings of retention. A night is deleted only when every rule that is given says so."""

    nights: AtLeastOne | None = Field(None, description="keep so many of the newest; null: no such rule")
    days: AtLeastOne | None = Field(None, description="keep those of the last days; null: no such rule")


class ReportConfig(Section):
    """Settings of the report: what it shows."""

    ids: int = Field(20, ge=0, description="ids of people, photos and clusters shown of each list; 0: none")


class ExecutionSettings(Section):
    """Settings of execution, of dedup and identify: how fast, never what. Enroll has `settings.resources`."""

    executor: ExecutorChoice = Field(
        "auto", description="ray, local, or auto: local for steps that have little to do; see `run.executor`"
    )
    workers: AtLeastOne | None = Field(None, description="actors; null: one for each CPU of the cluster")
    kernel: Wish = Field(
        "auto",
        description="how likely pairs are found: fp32, int8, subspace, subspace-int8, cuda, or auto",
    )
    cache_mb: int = Field(
        DEFAULT_CACHE_MB,
        ge=0,
        description="how much of a gallery in an object store each node keeps on its disk; 0: nothing",
    )
    cache_dir: str = Field("", description="where each node keeps it; empty: its TMPDIR")
    forms: bool = Field(
        True,
        description="whether templates are stored with the gallery in the form of `subspace` and its like",
    )


class PhotoTable(Section):
    """A manifest or a table that names the photos, in place of a folder that holds them."""

    manifest: str = Field(
        description="a manifest: a file, a folder of files, Hive-partitioned ones too, a pattern"
    )
    new: Literal["unseen", "files", "arrived"] = Field(
        "unseen",
        description="which rows are read: all; those of new and changed files; those that arrived since",
    )
    arrived: str | None = Field(None, description="column, or key of folders, that says when a row arrived")

    @model_validator(mode="after")
    def _column(self) -> Self:
        if (self.new == "arrived") != (self.arrived is not None):
            raise ValueError("photos.arrived names the column for photos.new: arrived, and only for that")
        return self


class NightConfig(Section):
    """The whole configuration of a night."""

    runs: str = Field(description="folder or prefix that holds a folder a night")
    gallery: str = Field(description="the gallery that the nights fill; made by the first")
    photos: str | PhotoTable | None = Field(
        None, description="folder or prefix of all photos, or `{manifest: ...}`; needed by `scan`"
    )
    scan: ScanStep = ScanStep()
    enroll: Step = Step()
    consolidate: ConsolidateStep = ConsolidateStep()
    dedup: DedupStep = DedupStep()
    identify: IdentifyStep = IdentifyStep()
    drift: DriftStep = DriftStep()
    publish: PublishStep = PublishStep()
    gates: Gates = Gates()
    cost: Cost = Cost()
    lease: LeaseConfig = LeaseConfig()
    retention: Retention = Retention()
    report: ReportConfig = ReportConfig()
    execution: ExecutionSettings = ExecutionSettings()
    settings: Config = Field(Config(), description="of enroll, as in docs/configuration.md")

    @field_validator("photos", mode="before")
    @classmethod
    def _table(cls, photos: Any) -> Any:
        """Check a table of photos here: for a setting of two types, Pydantic would name only the first."""
        if not isinstance(photos, dict):
            return photos
        try:
            return PhotoTable.model_validate(photos)
        except ValidationError as error:
            raise explained(error, PhotoTable, "docs/nightly.md", "photos", "photos") from None

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        if self.scan.enabled and self.photos is None:
            raise ValueError("scan needs photos: name their folder, or set scan.enabled to false")
        for step, needed in (("enroll", "scan"), ("consolidate", "enroll"), ("drift", "enroll")):
            if self.on(step) and not self.on(needed):
                raise ValueError(f"{step} needs {needed}: set {step}.enabled to false, or {needed}'s to true")
        if isinstance(self.photos, PhotoTable):
            self._refuse_rules_of_folders()
        if self.identify.enabled and self.identify.probes is None and not self.enroll.enabled:
            raise ValueError("identify needs probes where enroll is off: name their folder")
        return self

    def _refuse_rules_of_folders(self) -> None:
        for name in ("glob", "exclude", "system", "subject_from"):
            if getattr(self.scan, name) != ScanStep.model_fields[name].default:
                raise ValueError(
                    f"scan.{name} is for a folder of photos: leave it out where photos are a manifest"
                )

    @property
    def photo_table(self) -> PhotoTable | None:
        """The table that names the photos; None: a folder holds them."""
        return self.photos if isinstance(self.photos, PhotoTable) else None

    @property
    def photo_place(self) -> str:
        """Address of the folder of photos, or of the manifest that names them."""
        return self.photos.manifest if isinstance(self.photos, PhotoTable) else str(self.photos)

    def on(self, step: str) -> bool:
        """Whether a step is switched on."""
        return bool(getattr(self, step).enabled)

    def identity(self) -> dict[str, Any]:
        """The settings that decide the content of a night's folder."""
        facts = self.model_dump(mode="json", exclude=_NOT_CONTENT)
        for step, later in _LATER.items():
            how = facts[step].items()
            facts[step] = {name: value for name, value in how if name not in later or value != later[name]}
        return {**facts, "recipe": self.settings.recipe()}


def load_night(path: str | Path, overrides: Sequence[str] = ()) -> NightConfig:
    """Read a YAML file and apply `section.key=value` overrides. Raises ConfigError as `load_config`."""
    data = read_settings(path, overrides)
    try:
        return NightConfig.model_validate(data)
    except ValidationError as error:
        raise explained(error, NightConfig, "docs/nightly.md", "of the night") from None
