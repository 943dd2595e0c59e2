"""Find ids that a gallery stores in several Unicode forms, which look the same.

A gallery stores ids in NFC. One that was filled by older code may hold a person twice: under the id in NFC,
and under the form that macOS uses in file names. A snapshot shows such a person as one.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.text import canonical_text
from frpipe.core.text_column import canonical_column
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID
from frpipe.gallery.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class StoredForms:
    """Stored forms of one id.

    subject_id: in NFC.  forms: as stored, sorted.  templates: visible ones of each form.

    faces: face ids of this person that are stored in several forms, in NFC, sorted.
    """

    subject_id: str
    forms: tuple[str, ...]
    templates: tuple[int, ...]
    faces: tuple[str, ...] = ()

    @property
    def looks_twice(self) -> bool:
        """Whether a reader that compares bytes sees two people or two templates where there is one."""
        return len(self.forms) > 1 or bool(self.faces)


def stored_forms(snapshot: Snapshot) -> list[StoredForms]:
    """Find the people of a version with an id that is not stored in NFC; sorted by id.

    Reads the ids twice. Memory: a shard, and the ids of the people who are found.
    """
    odd = pa.array(sorted(_odd(snapshot)), pa.string())
    forms: dict[str, dict[str, int]] = {}
    faces: dict[str, dict[str, set[str]]] = {}
    for table in snapshot.stored_keys() if len(odd) else ():
        found = table.filter(pc.is_in(canonical_column(table[SUBJECT_ID]), value_set=odd))
        for subject, face in zip(*(found[name].to_pylist() for name in (SUBJECT_ID, FACE_ID)), strict=True):
            person = canonical_text(subject)
            counts = forms.setdefault(person, {})
            counts[subject] = counts.get(subject, 0) + 1
            faces.setdefault(person, {}).setdefault(canonical_text(face), set()).add(face)
    return [
        StoredForms(
            person,
            tuple(sorted(counts)),
            tuple(counts[form] for form in sorted(counts)),
            tuple(sorted(face for face, written in faces[person].items() if len(written) > 1)),
        )
        for person, counts in sorted(forms.items())
    ]


def _odd(snapshot: Snapshot) -> set[str]:
    """Ids, in NFC, of people who have a row whose key is not in NFC."""
    people: set[str] = set()
    for table in snapshot.stored_keys():
        normal = canonical_column(table[SUBJECT_ID])
        same = pc.and_(
            pc.equal(normal, table[SUBJECT_ID]), pc.equal(canonical_column(table[FACE_ID]), table[FACE_ID])
        )
        people.update(normal.filter(pc.invert(same)).to_pylist())
    return people
