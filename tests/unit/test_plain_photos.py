"""What is taken for a photo a whole column at a time is what the rules take one by one."""

from __future__ import annotations

from itertools import product

import fsspec
import pyarrow as pa
import pytest

from frpipe.io.manifest import photo_rules
from frpipe.io.manifest.photo_listing import PhotoListing
from frpipe.io.manifest.photo_rules import PhotoRules, are_plain, may_be_listed
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.listed import in_blocks

_FOLDERS = (
    *photo_rules._SYSTEM,
    *photo_rules._SYSTEM_ANY_CASE,
    *(
        "Cat.lrdata",
        "appdata_ocab12cd34ef",
        "found.001",
        "SYNOPHOTO_THUMB_x",
        "A.PhotosLibrary",
        "DESKTOP.INI",
    ),
    *("ann", "..", "", ".x", "x.tar#", "\u017ft"),
)
_FILES = (
    *("1.jpg", "2.JPEG", ".jpg", "a.b.png", "notes.txt", "3.jpg.txt", "jpg", "4.j2\u212a", "thumbs.db"),
    *("a\nb.jpg", "a::b.gif", "c.zip#1.jpg", "김.heic", "photo", "#recycle.jpg", "Thumbs.db.jpg", "@eaDir"),
)
_PATHS = [
    *_FILES,
    *("/".join(parts) for parts in product(_FOLDERS, _FILES)),
    *("/".join(parts) for parts in product(("ann", ".x"), _FOLDERS, _FILES)),
]
_PATTERNS = [
    {},
    {"system": True},
    {"glob": "*/*.jpg"},
    {"exclude": ["ann", "a.b.*"]},
    {"exclude": ["*/1.jpg"]},
]


def test_what_is_plain_is_taken_by_the_rules_and_by_manifests() -> None:
    rules = PhotoRules()
    plain = are_plain(pa.array(_PATHS)).to_pylist()
    for path, is_plain in zip(_PATHS, plain, strict=True):
        assert not is_plain or (rules.takes(path) and may_be_listed(path, is_local=False)), path
    usual = ["p1/1.jpg", "IMG_0001.JPG", "2026/11/IMG 2.heic", "zoé/김.png", "foundation/system/a.webp"]
    assert all(are_plain(pa.array(usual)).to_pylist())


@pytest.mark.parametrize("rules", _PATTERNS)
def test_a_block_is_taken_as_its_names_are(rules: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "walk_blocks", lambda *_: in_blocks((path, 1, "v") for path in _PATHS))
    listing, alone = (PhotoListing(Folder.at("memory://album"), PhotoRules(**rules)) for _ in range(2))  # type: ignore[arg-type]
    found = [name for block in listing.blocks() for name in block["name"].to_pylist()]
    taken = list(alone.names())
    assert found == [name for name in taken if may_be_listed(name, is_local=False)]
    assert listing.unreadable == len(taken) - len(found)
    assert listing.left_out.facts() == alone.left_out.facts()


def test_a_name_that_is_no_utf8_is_one_that_no_manifest_holds() -> None:
    store = fsspec.filesystem("memory")
    for name in ("a.jpg", "b\udcff.jpg", "\udcff.txt"):
        store.pipe(f"/odd-names/{name}", b"x")
    try:
        listing = PhotoListing(Folder.at("memory://odd-names"))
        assert [name for block in listing.blocks() for name in block["name"].to_pylist()] == ["a.jpg"]
        assert (listing.unreadable, listing.left_out.no_photo) == (1, {".txt": 1})
        names = PhotoListing(Folder.at("memory://odd-names")).names()
        assert [may_be_listed(name, is_local=False) for name in names] == [True, False]
    finally:
        store.rm("/odd-names", recursive=True)
