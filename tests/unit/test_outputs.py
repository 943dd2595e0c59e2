"""The published output of an enroll run as its readers meet it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from frpipe.core.errors import OutputError
from frpipe.io.output.features import read_outputs
from frpipe.io.output.parts import write_part
from frpipe.io.storage.folder import Folder


@pytest.mark.parametrize("sub", ["images", "faces"])
def test_a_damaged_part_is_an_error_with_a_remedy(sub: str, tmp_path: Path) -> None:
    out = Folder.at(str(tmp_path))
    write_part(out, 0, pa.table({"image_id": ["a"]}), pa.table({"face_id": ["a#0"]}), {})
    ((images, faces),) = read_outputs(out)
    assert (images.num_rows, faces.num_rows) == (1, 1)
    with pytest.raises(OutputError, match="lacks a column"):
        list(read_outputs(out, ["image_id"], ["none"]))
    victim = tmp_path / f"{sub}/part-000000.parquet"
    victim.write_bytes(bytes(victim.stat().st_size))
    with pytest.raises(OutputError, match=f"{sub}/part-000000.parquet in .* is damaged") as caught:
        list(read_outputs(out))
    assert "frpipe check" in caught.value.remedy
