"""Read scores of presentation attack detection as trials, from a list or from an enroll output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from frpipe.core.config import canonical_hash
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, OutputError
from frpipe.core.left_out import is_left_out
from frpipe.core.text import alike
from frpipe.evaluation.pairs import Labels, Mask
from frpipe.evaluation.presentations import PadTrials
from frpipe.io.manifest.row_list import RowList, fingerprint
from frpipe.io.output import run
from frpipe.io.output.run import ListedFiles
from frpipe.io.storage.folder import Folder
from frpipe.jobs.evaluate.pair_results import alike_ids, texts
from frpipe.jobs.features import FeatureRun
from frpipe.metrics.scores import Doubles

BONA_FIDE = "bona_fide"
# Species that a warning names.
_NAMED = 5
_IMAGES, _FACES, _HELD = "images", "faces", "held"
_BOX = ("box_x1", "box_y1", "box_x2", "box_y2")


@dataclass(frozen=True, slots=True)
class PadColumns:
    """Names of columns. score: the larger the more bona fide.  label: bona_fide, or the species of an attack.

    subject: who is there, or is imitated.  similarity: to the person who is claimed; None: not compared.  by:
    whose labels make groups.
    """

    score: str = "pad_score"
    label: str = "label"
    subject: str = "subject_id"
    similarity: str | None = None
    by: Sequence[str] = ()

    @property
    def needed(self) -> list[str]:
        """The columns that must be there: all but the subject, which may be unknown."""
        return [self.score, self.label, *([self.similarity] if self.similarity else []), *self.by]


@dataclass(frozen=True, slots=True)
class PadResults:
    """Scores as trials. digest: of what was read."""

    uri: str
    trials: PadTrials
    digest: str
    provenance: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, uri: str, columns: PadColumns) -> PadResults:
        """Read the --output of a finished enroll run, or a file or folder of CSV, Parquet or JSON lines.

        Raises ManifestError: there is no such list, or it lacks a column; OutputError: the run has not ended;
        ConfigError: a column has no numbers, or nothing is labelled.
        """
        if Folder.at(uri).exists(run.RUN):
            source = FeatureRun.open(uri)
            frame, warnings = _enrolled(source.folder, columns)
            return cls._of(uri, frame, columns, run.digest(source.folder), warnings)
        rows = RowList.opened(uri, "list of scores", frozenset(columns.needed), frozenset({columns.subject}))
        rows.require(*columns.needed)
        return cls._of(
            uri, _listed(rows, columns), columns, canonical_hash({"files": fingerprint(rows)[1]}), []
        )

    @classmethod
    def _of(
        cls, uri: str, frame: Mapping[str, Labels], columns: PadColumns, digest: str, warnings: list[str]
    ) -> PadResults:
        labels = np.array([_species(label) for label in frame[columns.label]], object)
        named = np.array([label is not None for label in labels], bool)
        if not named.any():
            raise ConfigError(
                f"the column {columns.label!r} labels no presentation",
                f"write {BONA_FIDE} or the name of an attack's species; --label names another column",
            )
        persons, words = _persons(frame.get(columns.subject), named)
        trials = PadTrials(
            labels[named],
            _numbers(frame, columns.score)[named],
            persons,
            _numbers(frame, columns.similarity)[named] if columns.similarity else None,
            {column: np.asarray(frame[column])[named] for column in columns.by},
        )
        words += _doubtful(trials)
        unlabelled = int(np.count_nonzero(~named))
        if unlabelled:
            words.append(f"{counted(unlabelled, 'rows have')} no {columns.label}: left out")
        provenance = {"result": uri, "result_files": digest, "score": columns.score, "label": columns.label}
        return cls(uri, trials, digest, provenance, [*warnings, *words])


def _species(label: str) -> str | None:
    """The species of an attack; "": bona fide; None: not said."""
    text = " ".join(str(label).split())
    if text.casefold().replace("-", " ").replace("_", " ") in {"bona fide", "bonafide"}:
        return ""
    return text or None


def _doubtful(trials: PadTrials) -> list[str]:
    """Warnings where labels may not say what they were meant to."""
    species = trials.all_species
    meant = "; ".join(" and ".join(group) for group in alike(species))
    words = [f"species of attacks that may be meant as one: {meant}"] if meant else []
    if not trials.bona_fide.any():
        some = ", ".join(species[:_NAMED]) + (", ..." if len(species) > _NAMED else "")
        words.append(f"no presentation is labelled {BONA_FIDE}: all labels are species of attacks ({some})")
    return words


def _persons(subjects: Labels | None, named: Mask) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[str]]:
    """Number each presentation's person; an unknown one counts as a person of its own."""
    rows = np.arange(len(named)).astype(str)
    known = np.zeros(len(named), object) if subjects is None else subjects
    known = np.where(known == 0, "", known)
    lacking = int(np.count_nonzero((known == "") & named))
    # No id has a NUL.
    owners = np.where(known == "", "\0" + rows.astype(object), known)[named]
    numbers = pd.factorize(owners, sort=True)[0].astype(np.int64)
    words = (
        f"who is in {counted(lacking, 'presentations')} is not known: intervals take each for a "
        "person of its own, and are too narrow where people come again"
    )
    return numbers, [*([words] if lacking else []), *alike_ids(known[named])]


def _listed(rows: RowList, columns: PadColumns) -> dict[str, Labels]:
    wanted = [*columns.needed, *([columns.subject] if columns.subject in rows.schema.names else [])]
    batches = [batch.rows for batch in rows.batches(wanted)]
    table = pa.Table.from_batches(batches, batches[0].schema) if batches else rows.schema.empty_table()
    return {name: texts(table[name]) for name in wanted}


def _enrolled(folder: Folder, columns: PadColumns) -> tuple[dict[str, Labels], list[str]]:
    """Tabulate an enroll output, a row a photo: its largest face, held back or not; or no response.

    Where the largest was left out, no other face is the presentation.
    """
    files = ListedFiles.of(folder)
    images = pa.concat_tables([files.table(name) for name in files.below(_IMAGES)])
    faces = pd.concat(
        [_largest(files.table(name), columns) for sub in (_FACES, _HELD) for name in files.below(sub)]
    )
    ids = texts(images["image_id"])
    behind = faces["image_id"].isin(ids[is_left_out(images, "largest")])
    lost = faces["image_id"][behind].nunique()
    faces = faces[~behind]
    ordered = faces.sort_values("area", ascending=False, kind="stable")
    best = ordered[~ordered["image_id"].duplicated()].set_index("image_id")
    several = int(faces["image_id"].duplicated(keep=False).groupby(faces["image_id"]).any().sum())
    # A column of both tables is the manifest's; only `images` has it for photos without a face.
    of_faces = [name for name in columns.needed if name == columns.score or name not in images.column_names]
    missing = [name for name in of_faces if name not in faces.columns]
    if missing:
        raise ConfigError(
            f"the enroll output has no column {missing[0]!r}",
            f"enroll a manifest with that column; there are {', '.join(images.column_names)}",
        )
    of_images = [name for name in (*columns.needed, columns.subject) if name in images.column_names]
    found = {name: texts(images[name]) for name in of_images}
    found |= {name: best[name].reindex(ids).fillna("").to_numpy(object) for name in of_faces}
    words = []
    if several:
        words.append(
            f"{counted(several, 'photos have')} several faces: the largest of each is the presentation"
        )
    if lost:
        words.append(
            f"{counted(lost, 'photos have')} lost the largest face, which was left out: presentations "
            "without a response"
        )
    return found, words


def _largest(table: pa.Table, columns: PadColumns) -> pd.DataFrame:
    """The columns of faces that are asked for, and how large each face is."""
    if columns.score not in table.column_names:
        raise OutputError(
            f"the faces have no column {columns.score!r}",
            "enroll with a stage that gives one (docs/stages.md), or name the column with --score",
        )
    x1, y1, x2, y2 = (table[name].to_numpy() for name in _BOX)
    some = [name for name in columns.needed if name in table.column_names]
    return pd.DataFrame(
        {
            "image_id": texts(table["image_id"]),
            "area": (x2 - x1) * (y2 - y1),
            **{name: texts(table[name]) for name in some},
        }
    )


def _numbers(frame: Mapping[str, Labels], column: str) -> Doubles:
    """Parse numbers, (n,), NaN where the text is empty. Raises ConfigError: one is no finite number."""
    values = np.asarray(frame[column], object)
    empty = np.array([not str(value).strip() for value in values], bool)
    try:
        found = np.where(empty, "nan", values).astype(np.float64)
    except ValueError:
        found = np.full(len(values), np.inf)
    if not np.isfinite(found[~empty]).all():
        raise ConfigError(
            f"the column {column!r} has values that are no numbers",
            "write finite numbers, and leave empty (null, not NaN) where there was no response",
        )
    return found
