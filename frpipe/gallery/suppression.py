"""Suppression list of a gallery: keyed digests of people, photos and contents that must not come back.

suppressed/000000001.json ...   sealed documents, created once and never changed: `suppress` adds entries,
                                `allow` lifts digests of earlier ones

A digest is BLAKE2b, 16 bytes, of an id in Unicode NFC. Its key is random and lies in the document; in an
encrypted gallery it is encrypted with the gallery's key. Entries from another gallery keep their key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from frpipe.core.errors import GalleryConflict, GalleryDamaged, GalleryError
from frpipe.core.text import canonical_text
from frpipe.gallery.document import damaged, read_sealed, sealed, unsealed
from frpipe.gallery.encryption import Cipher
from frpipe.gallery.photos import image_ids
from frpipe.gallery.schema import FACE_ID, SUBJECT_ID, check_text
from frpipe.io.storage.folder import Folder

SUPPRESSED = "suppressed"
IMAGE_ID = "image_id"
CONTENT = "content_sha256"
SUPPRESS, ALLOW = "suppress", "allow"
SUBJECTS, IMAGES, CONTENTS = KINDS = ("subjects", "images", "contents")
_COLUMNS = {SUBJECT_ID: SUBJECTS, IMAGE_ID: IMAGES, FACE_ID: IMAGES, CONTENT: CONTENTS}
_NAME = re.compile(rf"{SUPPRESSED}/(\d{{9}})\.json")
_FACE_NUMBER = re.compile(r"#[0-9]+\Z")
# The face id of a photo that was enrolled alone: the first 20 hex digits of its SHA-256. After a merge it may
# be prefixed with a source: it is the same file.
_OF_PHOTO = re.compile(r"(?:^|/)photo:([0-9a-f]{20})\Z")
_CONTENT_DIGITS = 20
_KEY_BYTES = 32
_DIGEST = re.compile(r"[0-9a-f]{32}\Z")
# Most digests in one document: about 700 KB.
_MOST_DIGESTS = 20_000
_TRIES = 100


@dataclass(frozen=True, slots=True)
class Names:
    """Names to suppress, as plain text.  contents: SHA-256 of photo files, in hex."""

    subjects: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.subjects or self.images or self.contents)

    def __or__(self, other: Names) -> Names:
        return Names(
            self.subjects | other.subjects, self.images | other.images, self.contents | other.contents
        )

    @classmethod
    def of_faces(cls, subject_id: str, face_ids: Iterable[str]) -> Names:
        """A person with the photos that their templates in a gallery come from."""
        images, known = set(), set()
        for face_id in face_ids:
            alone = _OF_PHOTO.search(face_id)
            if alone:
                known.add(alone[1])
            else:
                images.add(image_of(face_id))
        return cls(frozenset({subject_id}), frozenset(images), frozenset(known))


@dataclass(frozen=True, slots=True)
class SuppressionEntry:
    """Digests that were suppressed together. key: of the digests, hex.  reason, by: as given, or empty."""

    key: str
    created: str
    reason: str = ""
    by: str = ""
    subjects: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.subjects) + len(self.images) + len(self.contents)

    @property
    def digest(self) -> str:
        """32 hex digits that stand for all that the entry suppresses."""
        told = [self.key, *(sorted(getattr(self, kind)) for kind in KINDS)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    def without(self, lifted: Mapping[str, set[str]]) -> SuppressionEntry:
        """The entry without lifted digests. lifted: digests of each kind."""
        return replace(self, **{kind: getattr(self, kind) - lifted[kind] for kind in KINDS})


class Suppressions:
    """The entries of a suppression list that are in force. Falsy if there are none."""

    def __init__(self, entries: Iterable[SuppressionEntry], documents: int = 0) -> None:
        self.entries = [entry for entry in entries if len(entry)]
        self.documents = documents

    def __bool__(self) -> bool:
        return bool(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def holds(self, kind: str, value: str) -> bool:
        """Whether an id is suppressed: of a person, a photo, or the SHA-256 of a photo's file."""
        return any(digest(key, kind, value) in sets[kind] for key, sets in self._sets.items() if sets[kind])

    def among(self, kind: str, values: Iterable[str]) -> list[str]:
        """Those of some ids that are suppressed."""
        some, found = list(values), list[str]()
        for key, sets in self._sets.items():
            if held := sets[kind]:
                # The state after the key, as each id begins with it.
                start = _keyed(key, kind).copy
                for value in some:
                    state = start()
                    state.update(_hashed(kind, value))
                    if state.hexdigest() in held:
                        found.append(value)
        return found

    @cached_property
    def digest(self) -> str:
        """64 hex digits that stand for all that the list suppresses; it names nobody."""
        told = sorted({entry.digest for entry in self.entries})
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def beyond(self, obeyed: Collection[str]) -> Suppressions:
        """The entries whose digest is not among some, of those that were obeyed before."""
        return Suppressions(entry for entry in self.entries if entry.digest not in obeyed)

    def mask(self, table: pa.Table) -> NDArray[np.bool_]:
        """(rows,) bool: rows that are suppressed: by `subject_id`, `image_id`, the photo of `face_id`, or
        `content_sha256`, as far as the table has these columns. A null is not."""
        hit = np.zeros(table.num_rows, bool)
        for name, kind in _COLUMNS.items() if self else ():
            if name in table.column_names and any(sets[kind] for sets in self._sets.values()):
                column = table.column(name)
                column = image_ids(column) if name == FACE_ID else column
                hit |= _where(column, partial(self.among, kind))
        if self and FACE_ID in table.column_names and any(sets[CONTENTS] for sets in self._sets.values()):
            hit |= _where(table.column(FACE_ID), self._by_photo)
        return hit

    def of_subject(self, subject_id: str) -> list[SuppressionEntry]:
        """The entries that name a person."""
        found = {digest(key, SUBJECTS, subject_id) for key in self._sets}
        return [entry for each in found for entry in self._by_subject.get(each, ())]

    @cached_property
    def _by_subject(self) -> dict[str, list[SuppressionEntry]]:
        named: dict[str, list[SuppressionEntry]] = {}
        for entry in self.entries:
            for each in entry.subjects:
                named.setdefault(each, []).append(entry)
        return named

    @cached_property
    def _sets(self) -> dict[str, dict[str, set[str]]]:
        """The digests by key and kind."""
        sets: dict[str, dict[str, set[str]]] = {}
        for entry in self.entries:
            mine = sets.setdefault(entry.key, {kind: set() for kind in KINDS})
            for kind in KINDS:
                mine[kind] |= getattr(entry, kind)
        return sets

    def _by_photo(self, face_ids: Iterable[str]) -> list[str]:
        alone = {each: found[1] for each in face_ids if (found := _OF_PHOTO.search(each))}
        gone = {*self.among(CONTENTS, alone.values())}
        return [each for each, content in alone.items() if content in gone]


def _where(column: pa.ChunkedArray, among: Callable[[Iterable[str]], Collection[str]]) -> NDArray[np.bool_]:
    """Rows whose values are chosen: (rows,) bool; each value is asked about once, and null is not chosen."""
    values = column.unique().to_pylist()
    barred = among(value for value in values if value is not None)
    found = pc.is_in(column, value_set=pa.array(barred, column.type)).to_numpy(zero_copy_only=False)
    return np.asarray(found, bool)


@dataclass(frozen=True, slots=True)
class _Document:
    """A document of the list. commit: random; distinguishes it from a rival of the same number."""

    number: int
    commit: str
    action: str
    entries: tuple[SuppressionEntry, ...]
    own: bool


@dataclass
class SuppressionList:
    """Suppression list of a gallery, as documents in a folder.

    cipher: of an encrypted gallery; its key is read when first needed.

    least: how many documents there must be, as the newest version knows.
    """

    folder: Folder
    cipher: Callable[[], Cipher | None]
    least: Callable[[], int]
    _read: dict[int, _Document] = field(default_factory=dict)

    def read(self) -> Suppressions:
        """Read the entries in force. Raises GalleryDamaged where a document is damaged or missing."""
        documents = self._documents()
        entries: list[SuppressionEntry] = []
        for document in documents:
            if document.action == SUPPRESS:
                entries += document.entries
                continue
            for lifted in document.entries:
                gone = {kind: set(getattr(lifted, kind)) for kind in KINDS}
                entries = [e.without(gone) if e.key == lifted.key else e for e in entries]
        return Suppressions(entries, len(documents))

    def documents(self) -> int:
        """Number of documents. Raises GalleryDamaged as `read`."""
        return len(self._documents())

    def suppress(self, names: Iterable[Names], reason: str = "", by: str = "") -> int:
        """Add names that are not on the list yet, one entry each; returns the number of new entries.

        Raises GalleryError for a text that is no UTF-8, GalleryConflict where others were always first.
        """
        wanted = [each for each in names if each]
        check_text([reason, by])
        added: list[SuppressionEntry] = []

        def missing(now: Suppressions, key: str) -> list[SuppressionEntry]:
            there = {
                kind: {d for e in now.entries if e.key == key for d in getattr(e, kind)} for kind in KINDS
            }
            entries = (_entry(key, each, reason, by) for each in wanted)
            # An entry whose person is there already stays whole: `allow` then lifts all of it.
            added[:] = [e for e in entries if any(getattr(e, kind) - there[kind] for kind in KINDS)]
            return list(added)

        self._append(SUPPRESS, missing)
        return len(added)

    def allow(self, names: Names, reason: str = "", by: str = "") -> int:
        """Lift names: persons with all that was suppressed with them; returns the number of digests.

        Digests that another entry has too stay suppressed.
        """
        lifted: list[SuppressionEntry] = []

        def change(now: Suppressions, _: str) -> list[SuppressionEntry]:
            lifted[:] = _lifted(now, names, reason, by)
            return list(lifted)

        self._append(ALLOW, change)
        return sum(map(len, lifted))

    def adopt(self, other: Suppressions) -> int:
        """Add the entries of another gallery's list under their own keys; returns the number of new ones.

        Digests that were ever on this list are left as they are, even if they were allowed since.
        """
        added = 0
        for key in sorted({entry.key for entry in other.entries}):
            mine: list[SuppressionEntry] = []

            def missing(
                _: Suppressions, __: str, key: str = key, mine: list[SuppressionEntry] = mine
            ) -> list[SuppressionEntry]:
                known: dict[str, set[str]] = {kind: set() for kind in KINDS}
                for entry in (e for d in self._documents() for e in d.entries if e.key == key):
                    for kind in KINDS:
                        known[kind] |= getattr(entry, kind)
                fresh = (e.without(known) for e in other.entries if e.key == key)
                mine[:] = [entry for entry in fresh if len(entry)]
                return list(mine)

            self._append(SUPPRESS, missing, own=False)
            added += len(mine)
        return added

    def _append(
        self, action: str, change: Callable[[Suppressions, str], list[SuppressionEntry]], own: bool = True
    ) -> None:
        """Write documents until none is missing: each is created once, and documents of rivals count too."""
        for _ in range(_TRIES):
            now = self.read()
            key = next((d.entries[0].key for d in self._documents() if d.own and d.entries), None)
            entries = change(now, key or secrets.token_hex(_KEY_BYTES))
            if not entries:
                return
            if self._written(now.documents + 1, action, entries, own):
                return
        raise GalleryConflict(
            f"other writers changed the suppression list first, {_TRIES} times",
            "run again when it is less busy",
        )

    def _written(self, number: int, action: str, entries: list[SuppressionEntry], own: bool) -> bool:
        """Whether all documents are on the list now; False where a rival was first."""
        for some in _pieces(entries):
            document = _Document(number, secrets.token_hex(16), action, tuple(some), own)
            name = _name(number)
            if not self.folder.create(name, sealed(self._content(document, name))):
                try:
                    # If a store loses its answer, the file's commit is read back.
                    if self._document(number).commit != document.commit:
                        return False
                except FileNotFoundError:
                    return False
            number += 1
        return True

    def names(self) -> list[str]:
        """Names of the documents, in order. Raises GalleryDamaged where one is missing."""
        least = self.least()  # first: documents are there before the version that counts them
        matches = (_NAME.fullmatch(entry.name) for entry in self.folder.list(SUPPRESSED))
        numbers = sorted(int(match[1]) for match in matches if match)
        if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < least:
            raise damaged(SUPPRESSED, "a document of the list is missing")
        return [_name(number) for number in numbers]

    def _documents(self) -> list[_Document]:
        return [self._document(number) for number, _ in enumerate(self.names(), start=1)]

    def _document(self, number: int) -> _Document:
        if number not in self._read:
            name = _name(number)
            self._read[number] = self._decoded(read_sealed(self.folder, name), number, name)
        return self._read[number]

    def _content(self, document: _Document, name: str) -> dict[str, Any]:
        """Content of a document of entries, all of one key."""
        key = document.entries[0].key
        cipher = self.cipher()
        if cipher is not None:
            key = base64.b64encode(bytes(cipher.encrypt(name, memoryview(bytes.fromhex(key))))).decode()
        return {
            "format_version": 1,
            "number": document.number,
            "commit": document.commit,
            "action": document.action,
            "own": document.own,
            "encrypted": cipher is not None,
            "key": key,
            "entries": [_plain(entry) for entry in document.entries],
        }

    def _decoded(self, content: dict[str, Any], number: int, name: str) -> _Document:
        try:
            key = str(content["key"])
            if content["encrypted"]:
                cipher = self.cipher()
                if cipher is None:
                    raise damaged(name, "it is of an encrypted gallery")
                key = bytes(cipher.decrypt(name, base64.b64decode(key, validate=True))).hex()
            _expect(content["number"] == number and content["action"] in {SUPPRESS, ALLOW})
            entries = tuple(_stored(key, each) for each in content["entries"])
            return _Document(number, str(content["commit"]), content["action"], entries, bool(content["own"]))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise damaged(name, "it has not the expected fields") from None


def exported(suppressions: Suppressions) -> bytes:
    """The list as a file for an export: digests, and the keys in the clear."""
    lists = [{"key": entry.key, **_plain(entry)} for entry in suppressions.entries]
    return sealed({"format_version": 1, "suppressed": lists})


def imported(data: bytes) -> Suppressions:
    """Read an exported list. Raises GalleryDamaged where it is not as it was written."""
    try:
        content = unsealed(data, "the suppression list")
        return Suppressions(_stored(str(each["key"]), each) for each in content["suppressed"])
    except (GalleryError, KeyError, TypeError, ValueError):
        raise GalleryDamaged(
            "the suppression list of the export is damaged", "export again, or put the file back"
        ) from None


def digest(key: str, kind: str, value: str) -> str:
    """Digest of an id, 32 hex digits. key: hex.  kind: one of KINDS."""
    state = _keyed(key, kind)
    state.update(_hashed(kind, value))
    return state.hexdigest()


def _keyed(key: str, kind: str) -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16, key=bytes.fromhex(key), person=kind.encode())


def _hashed(kind: str, value: str) -> bytes:
    return (value[:_CONTENT_DIGITS].lower() if kind == CONTENTS else canonical_text(value)).encode()


def image_of(face_id: str) -> str:
    """Id of the photo that a face is on: the face's id without its number."""
    return _FACE_NUMBER.sub("", face_id)


def _entry(key: str, names: Names, reason: str, by: str) -> SuppressionEntry:
    digests = {kind: frozenset(digest(key, kind, v) for v in getattr(names, kind)) for kind in KINDS}
    return SuppressionEntry(key, _now(), reason, by, **digests)


def _lifted(now: Suppressions, names: Names, reason: str, by: str) -> list[SuppressionEntry]:
    """The lifted digests, by key."""
    lifted = []
    for key in sorted({entry.key for entry in now.entries}):
        mine = [entry for entry in now.entries if entry.key == key]
        gone = {kind: {digest(key, kind, value) for value in getattr(names, kind)} for kind in KINDS}
        whole = [entry for entry in mine if entry.subjects & gone[SUBJECTS]]
        others = [entry for entry in mine if not entry.subjects & gone[SUBJECTS]]
        for kind in (IMAGES, CONTENTS):
            with_them = {each for entry in whole for each in getattr(entry, kind)}
            gone[kind] |= with_them - {each for entry in others for each in getattr(entry, kind)}
        there = {kind: gone[kind] & {d for entry in mine for d in getattr(entry, kind)} for kind in KINDS}
        entry = SuppressionEntry(key, _now(), reason, by, **{kind: frozenset(there[kind]) for kind in KINDS})
        lifted += [entry] if len(entry) else []
    return lifted


def _pieces(entries: list[SuppressionEntry]) -> Iterator[list[SuppressionEntry]]:
    """Split entries into documents: of one key, and not too many digests unless one entry has them."""
    piece: list[SuppressionEntry] = []
    for entry in sorted(entries, key=lambda entry: entry.key):
        full = sum(map(len, piece)) + len(entry) > _MOST_DIGESTS
        if piece and (full or piece[0].key != entry.key):
            yield piece
            piece = []
        piece.append(entry)
    if piece:
        yield piece


def _plain(entry: SuppressionEntry) -> dict[str, Any]:
    content = {**asdict(entry), **{kind: sorted(getattr(entry, kind)) for kind in KINDS}}
    del content["key"]
    return content


def _stored(key: str, content: Mapping[str, Any]) -> SuppressionEntry:
    """Parse an entry. Raises ValueError for what is no digest."""
    digests = {kind: frozenset(content[kind]) for kind in KINDS}
    _expect(all(_DIGEST.match(each) for some in digests.values() for each in some))
    _expect(len(bytes.fromhex(key)) == _KEY_BYTES)
    return SuppressionEntry(
        key, str(content["created"]), str(content["reason"]), str(content["by"]), **digests
    )


def _expect(condition: bool) -> None:
    if not condition:
        raise ValueError


def _name(number: int) -> str:
    return f"{SUPPRESSED}/{number:09d}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
