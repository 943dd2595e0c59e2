"""Photos that kill, hang or exhaust whoever decodes them: found within three deaths, all others kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from clean_runs import Clean
from enrollment import content, enroll, write_manifest
from kill_points import Bench

POISON = {"crash": "crashed_worker", "memory": "exhausted_memory", "hang": "hung_worker"}
SETTINGS = (
    "resources.part_rows=12",
    "detect.policy=centre-largest",
    "decode.plugins=[poison:decode]",
    "resources.row_memory_mb=1024",
    "resources.row_timeout_s=15",
    "resources.stall_timeout_s=20",
)


@pytest.mark.slow
def test_killers_cost_their_part_one_more_attempt_and_nobody_else_anything(
    photos: list[Path], bench: Bench, clean: Clean, tmp_path: Path
) -> None:
    clean.events("enroll")
    listed = list(photos)
    for number, how in ((3, "crash"), (7, "memory"), (8, "crash"), (20, "hang")):
        listed[number] = tmp_path / f"{number}.jpg"
        listed[number].write_bytes(b"POISON" + how.encode())
    manifest = write_manifest(tmp_path / "m.csv", listed)
    bench.injector.clear()
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    done = enroll(manifest, tmp_path / "out", *words, **bench.environment)
    assert done.returncode == 0, done.stderr
    rows = {row["image_id"]: row for row in content(tmp_path / "out", "images").to_pylist()}
    bad = {name: row["reason"] for name, row in rows.items() if row["status"] == "rejected"}
    crash, memory, hang = POISON.values()
    assert bad == {"id-0003": crash, "id-0007": memory, "id-0008": crash, "id-0020": hang}
    assert {rows[name]["attempts"] for name in bad} == {3}
    assert {row["attempts"] for name, row in rows.items() if name not in bad} == {1}
    begun = Counter(what for _, what in bench.injector.events() if what.startswith("begin "))
    assert begun == {"begin Enroll 0": 2, "begin Enroll 1": 2, "begin Enroll 2": 1}
    # Other parts make other batches, which may change the last bit of a vector.
    kept, expected = vectors(tmp_path / "out"), vectors(clean.output("enroll"))
    assert kept.keys() == expected.keys() - {f"{name}#0" for name in bad}
    assert all(np.allclose(kept[name], expected[name], atol=1e-5) for name in kept)


def vectors(output: Path) -> dict[str, list[float]]:
    faces = content(output, "faces")
    return dict(zip(faces["face_id"].to_pylist(), faces["embedding"].to_pylist(), strict=True))
