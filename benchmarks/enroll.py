"""Enroll and its parts, side by side with bare loops and with a peer. The last line printed is JSON.

    python benchmarks/enroll.py                            everything, over all photos: most of an hour
    python benchmarks/enroll.py --photos 1000 --rounds 1   about ten minutes
    python benchmarks/enroll.py --only stages

Every ratio is `ours / theirs` of a speed: above 1 we are faster. docs/benchmarks.md says what is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
# OpenCV and OpenBLAS would start threads of their own in every contestant.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The job starts a Ray of its own on this machine.
os.environ.pop("RAY_ADDRESS", None)


def main() -> None:
    options = _parser().parse_args()
    from photos import shared_folder

    shared = shared_folder(options.shared)
    os.environ["FRPIPE_MODEL_DIR"] = str(shared / "models")
    from machine import machine

    report: dict[str, Any] = {"machine": machine()}
    for name, section in _sections(shared, options).items():
        if options.only in (None, name):
            print(f"{name} ...", file=sys.stderr, flush=True)
            report[name] = section()
            print(json.dumps({name: report[name]}, indent=1), file=sys.stderr, flush=True)
    print(json.dumps(report))


def _sections(shared: Path, options: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    from chain import chain
    from end_to_end import end_to_end
    from large_photos import large_photos
    from peers import peers
    from stages import stages

    return {
        "stages": lambda: stages(shared),
        "chain": lambda: chain(shared),
        "large_photos": lambda: large_photos(shared),
        "peers": lambda: peers(shared, options.photos, options.rounds),
        "end_to_end": lambda: end_to_end(shared, options.photos, options.rounds),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, metavar="N", help="LFW photos in the runs of jobs; default all")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="turns that each side takes")
    parser.add_argument(
        "--only",
        choices=("stages", "chain", "large_photos", "peers", "end_to_end"),
        metavar="SECTION",
        help="one section: %(choices)s",
    )
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared", help="folder with photos and models"
    )
    return parser


if __name__ == "__main__":
    main()
