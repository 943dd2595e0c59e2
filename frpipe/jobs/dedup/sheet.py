"""Write a page to review duplicates: the photos of the most similar clusters, in one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ConfigError, OutputError
from frpipe.io.output import run
from frpipe.io.output.units import Units
from frpipe.io.storage import uri as uris
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dedup.page import Link, Member, ShownCluster, page
from frpipe.jobs.dedup.schema import SAME_PERSON, SAME_PHOTO
from frpipe.jobs.dedup.since import CLUSTERS
from frpipe.jobs.dedup.source import FeatureSource, GallerySource
from frpipe.jobs.dedup.worker import PAIRS
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.output_place import refuse_relative
from frpipe.jobs.thumbnails import Thumbnails

# Members and links of a cluster that are shown; the others are counted.
_MEMBERS, _LINKS = 12, 8


def write_page(output: str, file: str, limit: int = 60) -> int:
    """Write the page of a finished result as a private file, and return the number of clusters shown.

    limit: the most of each kind. Clusters that link different photos come first, the most similar on top, as
    a person has to judge them; then those of one photo under several ids. The page shows faces: treat it as
    you treat the photos.
    Raises OutputError where the result has not ended; ConfigError as `check_page`.
    """
    check_page(file)
    out = Folder.at(output)
    report = run.complete(out)
    if report is None:
        raise OutputError("the output is not a finished result of jobs/dedup.py", "run the job to its end")
    cases = _cases(out, limit)
    pictures = _Pictures(report, cases)
    groups = [_group(case, pictures) for case in cases]
    folder, name = uris.parent(uris.canonical(file))
    Folder.at(folder).write(name, page(report, groups).encode())
    return len(groups)


def check_page(file: str) -> None:
    """Raise ConfigError for a file that is no .html, or would stay in the folder of a submitted job."""
    refuse_relative("--sheet", file)
    if not file.lower().endswith((".html", ".htm")):
        raise ConfigError("--sheet is a page of HTML", "name a file that ends in .html")


@dataclass(frozen=True, slots=True)
class _Case:
    """A cluster with its rows.

    members: rows of clusters, the keeper first.  pairs: rows of pairs, best first, one for each two subjects.
    """

    members: list[dict[str, Any]]
    pairs: list[dict[str, Any]]


def _cases(out: Folder, limit: int) -> list[_Case]:
    """The most similar clusters of each kind, those of different photos first."""
    clusters = run.read_table(out, CLUSTERS)
    clusters = clusters.filter(pa.array(clusters["size"].to_numpy() > 1))
    units = Units(out, PAIRS)
    chosen = _chosen(units, clusters, limit)
    members: dict[str, list[dict[str, Any]]] = {cluster: [] for cluster in chosen}
    named = clusters.filter(pc.is_in(clusters["cluster_id"], value_set=pa.array(chosen, pa.string())))
    for row in named.to_pylist():
        members[row["cluster_id"]].append(row)
    best = _best_pairs(units, named)
    cases = []
    for cluster in chosen:
        pairs = sorted(best[cluster].values(), key=lambda pair: -pair["similarity"])
        cases.append(_Case(sorted(members[cluster], key=lambda row: not row["keeper"]), pairs))
    return cases


def _chosen(units: Units, clusters: pa.Table, limit: int) -> list[str]:
    """The ids of the clusters to show, by their most similar pair, of different photos if there is one."""
    names = clusters["cluster_id"].unique()
    best = {kind: np.full(len(names), -np.inf) for kind in (SAME_PERSON, SAME_PHOTO)}
    for table, homes in _inside(units, clusters):
        numbers = pc.index_in(homes, value_set=names).to_numpy()
        scores = table["similarity"].to_numpy()
        for kind, scored in best.items():
            mine = pc.equal(table["kind"], kind).to_numpy(zero_copy_only=False)
            np.maximum.at(scored, numbers[mine], scores[mine])
    best[SAME_PHOTO][np.isfinite(best[SAME_PERSON])] = -np.inf
    chosen: list[str] = []
    for scored in best.values():
        order = np.lexsort((np.arange(len(names)), -scored))[:limit]
        chosen += names.take(pa.array(order[np.isfinite(scored[order])])).to_pylist()
    return chosen


def _inside(units: Units, clusters: pa.Table) -> Iterator[tuple[pa.Table, pa.Array]]:
    """Iterate, file by file, over the pairs within one of these clusters, and the cluster of each."""
    subjects, ids = clusters["subject_id"].combine_chunks(), clusters["cluster_id"].combine_chunks()
    for table in units.tables():
        homes = [ids.take(pc.index_in(table[f"subject_{s}"], value_set=subjects)) for s in "ab"]
        same = pc.fill_null(pc.equal(*homes), False)
        yield table.filter(same), homes[0].filter(same).combine_chunks()


def _best_pairs(units: Units, clusters: pa.Table) -> dict[str, dict[tuple[str, str], dict[str, Any]]]:
    """The most similar pair of each two subjects, by cluster."""
    best: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for table, homes in _inside(units, clusters):
        for pair, cluster in zip(table.to_pylist(), homes.to_pylist(), strict=True):
            key, known = (pair["subject_a"], pair["subject_b"]), best.setdefault(cluster, {})
            if key not in known or pair["similarity"] > known[key]["similarity"]:
                known[key] = pair
    return best


def _group(case: _Case, pictures: _Pictures) -> ShownCluster:
    shown = case.members[:_MEMBERS]
    return ShownCluster(
        cluster_id=shown[0]["cluster_id"],
        size=len(case.members),
        mean=shown[0]["similarity_mean"],
        weak=shown[0]["weak"],
        members=[
            Member(m["subject_id"], m["quality"], m["keeper"], pictures.of(_face_of(m["subject_id"], case)))
            for m in shown
        ],
        links=[
            Link(pair["subject_a"], pair["subject_b"], pair["similarity"], pair["kind"])
            for pair in case.pairs[:_LINKS]
        ],
        more_links=max(0, len(case.pairs) - _LINKS),
    )


def _face_of(subject: str, case: _Case) -> str:
    """The face of a subject in its most similar pair."""
    for pair in case.pairs:
        for side in "ab":
            if pair[f"subject_{side}"] == subject:
                return str(pair[f"face_{side}"])
    return ""


class _Pictures:
    """Thumbnails of the photos of some faces."""

    def __init__(self, report: dict[str, Any], cases: Sequence[_Case]) -> None:
        uris = {
            pair[f"face_{side}"]: pair[f"image_uri_{side}"]
            for case in cases
            for pair in case.pairs
            for side in "ab"
        }
        self._thumbnails = Thumbnails(_source(report["source"]).locations(uris))

    def of(self, face: str) -> str | None:
        """The thumbnail in base64; None where the photo cannot be read."""
        data = self._thumbnails.of(face)
        return None if data is None else base64.b64encode(data).decode()


def _source(facts: dict[str, Any]) -> GallerySource | FeatureSource:
    if "gallery" in facts:
        return GallerySource(facts["gallery"], facts["version"], 1)
    found = FeatureRun.open(facts["features"])
    return FeatureSource(found.folder.uri, found.created, 1)
