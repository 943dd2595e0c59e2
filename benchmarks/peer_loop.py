"""A loop over photos as the documentation of the PyPI package insightface shows it, one thread, on the CPU.

Writes the faces found to a Parquet file, for a comparison of what both sides found.
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--manifest", "--models", "--output"):
        parser.add_argument(name, required=True)
    parser.add_argument("--det-size", type=int, required=True)
    options = parser.parse_args()
    paths = pq.read_table(options.manifest)["image_uri"].to_pylist()
    pq.write_table(
        pa.Table.from_pylist(analyse(prepared(options.models, options.det_size), paths)), options.output
    )


def prepared(models: str, det_size: int) -> Any:
    """A FaceAnalysis over the models of a folder, one thread, with input scales as our cards say."""
    from insightface.app import FaceAnalysis

    cv2.setNumThreads(1)
    app = FaceAnalysis(name=models, providers=["CPUExecutionProvider"], sess_options=_one_thread())
    app.prepare(ctx_id=-1, det_size=(det_size, det_size))
    # It guesses roles and input scales from the graphs.
    if set(app.models) != {"detection", "recognition"}:
        raise SystemExit(f"insightface took the models for {sorted(app.models)}")
    app.models["detection"].input_mean, app.models["detection"].input_std = 127.5, 128.0
    app.models["recognition"].input_mean, app.models["recognition"].input_std = 127.5, 127.5
    return app


def analyse(app: Any, paths: list[str]) -> list[dict[str, Any]]:
    """One dict per face."""
    return [
        {"path": path, "box": face.bbox, "embedding": face.normed_embedding}
        for path in paths
        for face in app.get(cv2.imread(path))
    ]


def _one_thread() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


if __name__ == "__main__":
    main()
