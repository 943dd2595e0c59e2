"""Read lists of templates, which say of which photos and media each is pooled; and lists of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.config import canonical_hash
from frpipe.core.counted import counted
from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.evaluation.pairs import Labels, Mask
from frpipe.io.manifest.row_list import RowList, fingerprint
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.subject_faces import SubjectPolicy
from frpipe.jobs.verify.named_faces import FACE_NAMES, IMAGE_NAMES, NamedFaces
from frpipe.matching.pooling import Indices, media_means

TEMPLATE, IMAGE, MEDIA, SUBJECT = "template_id", "image_id", "media", "subject_id"


@dataclass(frozen=True, slots=True)
class TemplateList:
    """A list of templates. ids, subjects: (t,), in the order of ids; "": it is not said who it is.

    template, medium: (n,) numbers, a row for each photo of each.  image: (n,) names of the photos.  digest:
    of the list's files.
    """

    ids: list[str]
    subjects: Labels
    template: Indices
    medium: Indices
    image: list[str]
    digest: str

    @classmethod
    def read(cls, uri: str) -> TemplateList:
        """Read a list with columns template_id and image_id, and where they are there media and subject_id.

        A photo without a medium is one of its own. Raises ManifestError: a column is missing, a row has no
        template or image, a photo is twice in a template, or a template is of two people.
        """
        rows, table = read_columns(uri, "list of templates", (TEMPLATE, IMAGE), (MEDIA, SUBJECT))
        template, ids = pd.factorize(np.array(table[TEMPLATE], object), sort=True)
        image = table[IMAGE]
        alone = [medium or f"\0{photo}" for medium, photo in zip(table[MEDIA], image, strict=True)]
        found = cls(
            [str(name) for name in ids],
            _subjects(template, table[SUBJECT], len(ids)),
            template.astype(np.int64),
            pd.factorize(np.array(alone, object))[0].astype(np.int64),
            image,
            digest_of(rows),
        )
        if len({*zip(found.template.tolist(), image, strict=True)}) < len(image):
            raise ManifestError("a photo is listed twice in a template", "list each once")
        return found

    @property
    def number(self) -> dict[str, int]:
        """The number of each template by its id."""
        return {name: place for place, name in enumerate(self.ids)}

    def pooled(self, source: FeatureRun, policy: str) -> tuple[NDArray[np.float32], Mask]:
        """Pool the templates: (t, dim) unit vectors, and (t,) whether one has a photo with a face."""
        names = {name: place for place, name in enumerate(dict.fromkeys(self.image))}
        faces = NamedFaces(names, source.spec.dim, cast(SubjectPolicy, policy))
        for images, found in source.features.tables(IMAGE_NAMES, FACE_NAMES):
            faces.add(images, found)
        rows = np.array([names[name] for name in self.image], np.int64)
        here = faces.present(rows)
        vectors = media_means(
            faces.vectors[rows[here]], self.template[here], self.medium[here], len(self.ids)
        )
        present: Mask = (vectors != 0).any(axis=1)
        return vectors, present

    def numbers(self, names: Sequence[str], what: str) -> Indices:
        """Numbers, (n,), of templates by their ids. Raises ManifestError: the list does not have one."""
        known = self.number
        missing = sum(name not in known for name in names)
        if missing:
            raise ManifestError(
                f"{counted(missing, 'rows')} of the {what} name a template that the list of templates lacks",
                f"name them by {TEMPLATE} of that list",
            )
        return np.array([known[name] for name in names], np.int64)


def read_columns(
    uri: str, noun: str, needed: Sequence[str], more: Sequence[str] = ()
) -> tuple[RowList, dict[str, list[str]]]:
    """Read columns of a list as texts in NFC; of `more` what it has, else empty texts.

    Raises ManifestError: it lacks one that is needed, or a row has no value of one, or there are no rows.
    """
    asked = (*needed, *more)
    rows = RowList.opened(uri, noun, frozenset(asked), frozenset(asked))
    rows.require(*needed)
    there = [name for name in asked if name in rows.schema.names]
    found: dict[str, list[str]] = {name: [] for name in asked}
    for batch in rows.batches(there):
        count = batch.rows.num_rows
        for name in asked:
            texts = batch.text(name) if name in there else pa.array([None] * count, pa.string())
            if name in needed and (texts.null_count or "" in texts.to_pylist()):
                raise ManifestError(f"the {noun} has rows without {name}", "fill it in, or take them out")
            found[name] += [canonical_text(text) if text else "" for text in texts.to_pylist()]
    if not found[asked[0]]:
        raise ManifestError(f"the {noun} has no rows", "check its path")
    return rows, found


def digest_of(rows: RowList) -> str:
    """The SHA-256 over the content of all files of a list."""
    return canonical_hash({"files": fingerprint(rows)[1]})


def _subjects(template: Indices, subjects: Sequence[str], templates: int) -> Labels:
    found = np.full(templates, "", object)
    for number, who in zip(template.tolist(), subjects, strict=True):
        if found[number] and who and found[number] != who:
            raise ManifestError("a template is of two people", f"give all its photos one {SUBJECT}")
        found[number] = found[number] or who
    return found
