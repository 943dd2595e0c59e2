"""Which rows bear an erased id: by its text where that is known, by its digest where it is not."""

from __future__ import annotations

import random
import re
from pathlib import Path
from unicodedata import normalize

import pyarrow as pa
import pytest

from frpipe.io.erasure.erased_ids import ErasedIds
from frpipe.io.erasure.needles import Haystack
from frpipe.io.storage.folder import Folder
from frpipe.jobs.erase.proof import ErasureError, Proof

NAMES = [
    normalize(form, text) for form in ("NFC", "NFD") for text in ("ann", "zoé", "김지수", "bob/1.jpg", "é")
]


@pytest.mark.parametrize("seed", range(20))
def test_a_text_and_its_digest_find_the_same_rows(seed: int) -> None:
    chance = random.Random(seed)
    subjects, images = chance.sample(NAMES, 3), chance.sample(NAMES, 2)
    told = ErasedIds.of("key", subjects, images)
    untold = ErasedIds("key", told.subjects, told.images)
    half = ErasedIds.of("key", subjects[:1], []) | untold
    columns = [pa.array([chance.choice([*NAMES, None]) for _ in range(50)], pa.string()) for _ in range(2)]
    table = pa.table(columns, names=["subject_id", "image_id"])
    found = [ids.mask(table).tolist() for ids in (told, untold, half)]
    assert found[0] == found[1] == found[2]
    assert told.among(table) == untold.among(table)
    other = ErasedIds.of("key", chance.sample(NAMES, 4), [])
    for ids in (told - other, told & other):
        assert ids.mask(table).tolist() == ErasedIds("key", ids.subjects, ids.images).mask(table).tolist()


@pytest.mark.parametrize("seed", range(20))
def test_a_proof_finds_the_ids_that_stand_alone_however_many_there_are(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    letters = "ab-é/. "
    ids = {"".join(chance.choices(letters, k=chance.randrange(8, 11))) for _ in range(40)} | {"........."}
    for number in range(30):
        text = "".join(chance.choices(letters, k=chance.randrange(30)))
        if chance.random() < 0.5:
            text += (
                chance.choice(["", " ", "x", "-", "é", "/"])
                + chance.choice(sorted(ids))
                + chance.choice(" x/-")
            )
        place = tmp_path / str(number)
        place.mkdir()
        (place / "notes.txt").write_text(text, encoding="utf-8")
        word = r"[\w-]"
        stands = any(re.search(rf"(?<!{word}){re.escape(each)}(?!{word})", text) for each in _forms(ids))
        proof = Proof(Folder.at(str(place)), ErasedIds("key"), frozenset(ids), Haystack([]))
        if stands:
            with pytest.raises(ErasureError):
                proof.prove()
        else:
            proof.prove()


def _forms(ids: set[str]) -> set[str]:
    found = {normalize(form, each) for each in ids for form in ("NFC", "NFD")} | ids
    return {each for each in found if len(each.encode()) >= 8}
