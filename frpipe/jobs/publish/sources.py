"""The finished runs and nights that can be published, and the facts of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Protocol

import pyarrow as pa

from frpipe.core.errors import OutputError
from frpipe.gallery.gallery import GALLERY
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import bytes_of
from frpipe.jobs.features import FeatureRun

Facts = Mapping[str, Any]
ENROLL, NIGHT = "enroll", "night"
_MADE = (ENROLL, "identify", "dedup")


@dataclass(frozen=True, slots=True)
class Search:
    """A finished result of identify.

    source: of the probes' photos.  faces: the run that found their faces; None where that is not known.
    probes: the enroll output of that run, where it is no step of a night.
    """

    name: str
    folder: Folder
    source: str
    faces: FoundBy | None
    probes: Folder | None = None


@dataclass(frozen=True, slots=True)
class FoundBy:
    """The run that found the faces of a search, and its times, as of its own rows."""

    run_id: str
    as_of: datetime
    night: date | None
    processed_at: datetime


class Vanished(Protocol):
    """The photos that a night did not find. Their number has no bound, so nobody holds them all."""

    def among(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """(rows,) bool: which of some ids are theirs."""
        ...

    def few(self) -> Sequence[pa.Array] | None:
        """Their ids; None where they are too many to hold."""
        ...


@dataclass(frozen=True, slots=True)
class Publication:
    """A run or a night to publish.

    content: SHA-256 that stands for all that is published of it.  features: its photos and faces, if any.
    vanished: photos that a night did not find, if any.  facts: its row of `runs`, as far as it is known.
    """

    run_id: str
    kind: str
    content: str
    source: str
    night: date | None
    as_of: datetime
    processed_at: datetime
    features: FeatureRun | None = None
    vanished: Vanished | None = None
    searches: tuple[Search, ...] = ()
    dedup: Folder | None = None
    facts: Facts = field(default_factory=dict)

    @property
    def order(self) -> tuple[datetime, date, datetime, str]:
        """The key that orders publications: of two rows of a photo the one of the later stands."""
        # A replay whose night is not known has the time of that night, and stands in its place.
        return self.as_of, self.night or date.max, self.processed_at, self.run_id

    @property
    def day(self) -> date:
        """The day of the state of the photos: the night, or else that of `as_of`."""
        return self.night or self.as_of.date()

    @property
    def month(self) -> str:
        """The month that its rows are partitioned by."""
        return self.day.strftime("%Y-%m")

    @property
    def number(self) -> int:
        """The number that stands for the content and its sources in logs of tables."""
        sources = [self.source, *(each.source for each in self.searches)]
        return int(digest_of([self.content, sources])[:15], 16)

    @property
    def photos(self) -> int:
        """The number of photos that it processed."""
        return int(self.facts.get("photos") or 0)

    @property
    def results(self) -> list[Folder]:
        """The results of identify and of dedup that are published with it."""
        return [*(each.folder for each in self.searches), *([self.dedup] if self.dedup else [])]

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"the night of {self.night}" if self.kind == NIGHT else str(self.facts.get("output"))


def result_at(uri: str, source: str | None) -> Publication:
    """Open a finished output of enroll (a replay too), identify or dedup.

    Raises OutputError: it has not ended, or is of another job.
    """
    folder = Folder.at(uri)
    job = _job(folder)
    if job not in _MADE:
        raise OutputError(
            f"{uri} is no output that can be published",
            "give those of enroll, replays, identify or dedup; nights with --nights",
        )
    if job == "enroll":
        return _enrolled(folder, source)
    report = run.complete(folder)
    if report is None:
        raise OutputError(
            f"{uri} has not ended, or lacks files", "run its job to the end: it goes on where it stopped"
        )
    begun = run.begun(folder)
    when = created_at(begun, folder)
    found = [_search(folder, str(report.get("gallery_id")), begun, source)] if job == "identify" else []
    return Publication(
        run_id(folder),
        job,
        run.digest(folder),
        found[0].source if found else source or "",
        None,
        when,
        when,
        searches=tuple(found),
        dedup=None if found else folder,
        facts=_facts(report, folder),
    )


def probes_of(publication: Publication, search: Search) -> Publication | None:
    """Make the publication that a search's photos would be; None where they are not there, or of a night."""
    if search.faces is None or search.probes is None or run.complete(search.probes) is None:
        return None
    features, mine = FeatureRun.open(search.probes.uri), search.faces.run_id
    return replace(publication, kind=ENROLL, run_id=mine, source=search.source, features=features)


def source_of(identity: Facts, base: Facts) -> str:
    """The source of a night's photos.

    identity, base: of its `run.json`. An older frpipe has recorded no source: then it is the name that the
    gallery has for it, else the place of the photos.
    """
    if base.get("source"):
        return str(base["source"])
    photos = identity.get("photos")
    place = str((photos["manifest"] if isinstance(photos, Mapping) else photos) or "photos")
    # A configuration may write the same place with a slash at its end.
    return gallery_source(identity) or place.rstrip("/") or place


def gallery_source(identity: Facts) -> str:
    """The prefix of the ids of a night's photos in the gallery; empty where there is none."""
    return str((identity.get("consolidate") or {}).get("source") or "")


def _source_at(night: Folder) -> str:
    facts = run.begun(night)
    return source_of(facts["identity"], facts.get("base") or {})


def run_id(folder: Folder) -> str:
    """The name of a run: its claim, or a digest of its run.json where that is older."""
    claim = run.begun(folder).get(run.CLAIM)
    if claim:
        return str(claim)
    return hashlib.sha256(bytes_of(folder, run.RUN)).hexdigest()[:32]


def sorted_by_time(found: Sequence[Publication]) -> list[Publication]:
    """Sort publications, oldest first, enroll outputs and nights before searches; each comes once."""
    rank = {"enroll": 0, "night": 0, "identify": 1, "dedup": 1}
    by_id = {each.run_id: each for each in found}
    return sorted(by_id.values(), key=lambda each: (rank[each.kind], each.order))


def _enrolled(folder: Folder, source: str | None) -> Publication:
    features = FeatureRun.open(folder.uri)
    begun, report = run.begun(folder), run.complete(folder) or {}
    again, night = begun.get("replayed"), _night_of(folder)
    if night is not None and not again:
        raise OutputError(
            f"{folder.uri} is a step of a night, which is published whole", "give --nights with its folder"
        )
    facts = {**_facts(report, folder), "replay_of": begun.get("replay_of"), **models_of(features, report)}
    return Publication(
        run_id(folder),
        "enroll",
        run.digest(folder),
        source or (_source_at(night) if night else features.manifest),
        date.fromisoformat(run.begun(night)["identity"]["date"]) if night else None,
        features.created,
        time_of(again) if again else features.created,
        features,
        facts=facts,
    )


def _search(folder: Folder, name: str, begun: Facts, source: str | None) -> Search:
    """Open a result of identify. source: of the probes; None: that of the run that found their faces."""
    probes = str(begun.get("probes") or "")
    place = Folder.at(probes) if probes else None
    if place is None or _job(place) != ENROLL:
        return Search(name, folder, source or probes or folder.uri, None)
    facts, night = run.begun(place), _night_of(place)
    where = _source_at(night) if night else str(facts.get("manifest") or probes)
    return Search(name, folder, source or where, found_by(place, night), None if night else place)


def found_by(place: Folder, night: Folder | None = None) -> FoundBy:
    """The run that the faces of an enroll output are published with.

    night: that the output is a step of, or a replay of such a step.
    """
    facts = run.begun(place)
    day = date.fromisoformat(run.begun(night)["identity"]["date"]) if night else None
    if night and day and not facts.get("replayed"):
        when = created_at(run.begun(night), night, day.isoformat())
        return FoundBy(run_id(night), when, day, when)
    when = created_at(facts, place)
    again = facts.get("replayed")
    return FoundBy(run_id(place), when, day, time_of(again) if again else when)


def _night_of(place: Folder) -> Folder | None:
    """Find the folder of the night that an enroll output is a step of, or a replay of such a step."""
    seen: set[str] = set()
    while replayed := run.begun(place).get("replay_of"):
        if place.uri in seen:
            return None
        seen.add(place.uri)
        place = Folder.at(str(replayed))
    above, _, name = place.uri.rpartition("/")
    if name != ENROLL or not above:
        return None
    folder = Folder.at(above)
    return folder if run.begun(folder).get("identity", {}).get("job") == NIGHT else None


def _job(folder: Folder) -> str:
    begun = run.begun(folder)
    if not begun:
        return GALLERY if folder.exists(GALLERY) else ""
    return str(begun.get("identity", {}).get("job", "enroll" if "manifest" in begun else ""))


def _facts(report: Facts, folder: Folder) -> dict[str, Any]:
    found = {name: report.get(name) for name in ("ok", "no_face", "rejected", "faces")}
    if "ok" not in report:
        found = {name: report.get(name) for name in ("probes", "identified", "clusters")}
    else:
        found |= {"photos": report.get("rows"), "photos_per_s": report.get("rows_per_s")}
    return {**found, "seconds": report.get("wall_s"), "output": folder.uri}


def models_of(features: FeatureRun, report: Facts) -> dict[str, Any]:
    """The names and hashes of the models of a run. report: of the run."""
    models = report.get("models") or {}
    return {
        "detector": models.get("detector"),
        "embedder": models.get("embedder"),
        **features.spec.hashes,
    }


def created_at(begun: Facts, folder: Folder, night: str = "") -> datetime:
    """The time when a run was begun. night: its date, where it is a night."""
    if begun.get("created"):
        return time_of(str(begun["created"]))
    if night:
        return time_of(night)
    version = folder.entry(run.RUN).version
    known = folder.is_local and version.isdigit()
    return datetime.fromtimestamp(int(version) // 10**9 if known else 0, UTC)


def time_of(text: str) -> datetime:
    """Parse a point in time; without a zone it is taken as UTC."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def digest_of(data: Any) -> str:
    """Compute the SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
