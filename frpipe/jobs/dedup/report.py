"""The report of a search for duplicates, as data and as text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.counted import counted
from frpipe.core.threshold import Threshold, threshold_lines
from frpipe.gallery.catalog import VersionId
from frpipe.jobs.dedup.blocks import NEAR_IDENTICAL, Counts


def report_of(counts: Counts, clusters: pa.Table, threshold: Threshold, **facts: Any) -> dict[str, Any]:
    """Make the report. Its pairs are same_photo + same_person, found now or carried over."""
    return {
        **facts,
        "pairs_compared": counts.compared,
        "pairs": counts.pairs,
        "same_photo": counts.same_photo,
        "same_person": counts.same_person,
        "left_out": {"same_subject": counts.same_subject, "same_image": counts.same_image},
        **cluster_counts(clusters),
        "threshold": threshold.as_dict(),
        "near_identical": NEAR_IDENTICAL,
    }


def cluster_counts(clusters: pa.Table) -> dict[str, int]:
    """Count clusters of two subjects and more, and subjects that the split left alone."""
    sizes, keepers = clusters["size"].to_numpy(), clusters["keeper"].to_numpy()
    weak = clusters["weak"].to_numpy()
    return {
        "clusters": int((keepers & (sizes > 1)).sum()),
        "subjects_in_clusters": int((sizes > 1).sum()),
        "subjects_alone": int((sizes == 1).sum()),
        "largest_cluster": int(np.max(sizes, initial=0)),
        "components": len(clusters["component_id"].unique()),
        "weak": int((keepers & weak).sum()),
    }


def report_text(report: dict[str, Any]) -> str:
    """The report as text for people."""
    left_out = report["left_out"]
    lines = [
        f"searched   {source_text(report)}",
        f"compared   {counted(report['pairs_compared'], 'pairs')}{since_text(report)}",
        *threshold_lines(report["threshold"]),
        f"pairs      {report['pairs']:,}: {report['same_photo']:,} same_photo, "
        f"{report['same_person']:,} same_person",
        f"left out   {left_out['same_subject']:,} of one subject, {left_out['same_image']:,} in one photo",
        f"clusters   {report['clusters']:,} with {counted(report['subjects_in_clusters'], 'subjects')}, "
        f"the largest {report['largest_cluster']:,}; {report['weak']:,} weak",
        f"output     {report['output']}",
    ]
    return "\n".join(lines)


def source_text(report: dict[str, Any]) -> str:
    """What was searched, for people."""
    source = report["source"]
    if "gallery" in source:
        return f"{counted(report['templates'], 'templates')}, {VersionId.read(source)} of {source['gallery']}"
    return f"{counted(report['templates'], 'faces')} of {source['features']}"


def since_text(report: dict[str, Any]) -> str:
    """Which pairs were compared, for people; empty where all were."""
    since = report["since"]
    if since is None:
        return ""
    new = (
        f", those of {counted(report['fresh_templates'], 'templates')} that are new since "
        f"{VersionId.read(since)}"
    )
    return (
        new if since["result"] is None else f"{new}; {counted(report['carried_pairs'], 'pairs')} carried over"
    )
