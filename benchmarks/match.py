"""Exact search and dedup, side by side with bare sgemm and faiss in one run. The last line printed is JSON.

    python benchmarks/match.py                                  everything: about an hour on two cores
    python benchmarks/match.py --only search --rows 100000      some minutes
    python benchmarks/match.py --only job
    python benchmarks/match.py --only subspace                  real embeddings, one core, CPU seconds

Every ratio is `theirs / ours` of seconds: above 1 we are faster. docs/benchmarks.md says what is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SECTIONS = ("search", "dedup", "memory", "job")
# Needs photos and models that are not everywhere, so that it is asked for by name.
SUBSPACE = "subspace"
SHARED = ROOT.parent / "shared"


def main() -> None:
    options = _parser().parse_args()
    if options.child:
        print(json.dumps(_measured(options)))
        return
    from machine import machine

    if options.only == SUBSPACE:
        print(json.dumps(_subspace(options)))
        return
    report: dict[str, Any] = {"bench": "match", "machine": machine()}
    for section in SECTIONS if options.only is None else (options.only,):
        report[section] = {
            f"{rows} rows, {threads} threads": _apart(options, section, rows, threads)
            for rows in _rows(options, section)
            for threads in (options.threads if section in ("search", "dedup") else [1])
        }
    print(json.dumps(report))


def _rows(options: argparse.Namespace, section: str) -> list[int]:
    default = {"search": [100_000, 1_000_000], "dedup": [100_000, 300_000], "memory": [100_000, 1_000_000]}
    return options.rows or default.get(section, [200_000])


def _subspace(options: argparse.Namespace) -> dict[str, Any]:
    """Searches and dedup of each embedder by size; and of what fills its dimensions."""
    from match_subspace import features

    features(options.features, options.shared)
    report: dict[str, Any] = {}
    for embedder in ("edgeface", "mobilefacenet"):
        report[embedder] = {
            _size(rows): _apart(options, SUBSPACE, rows, 1, embedder) for rows in options.rows or [200_000]
        }
        report[embedder]["dedup"] = {
            _size(rows): _apart(options, SUBSPACE, rows, 1, embedder, "--dedup") for rows in options.pairs_of
        }
    report["fallback"] = {
        embedder: _apart(options, SUBSPACE, (options.rows or [200_000])[0], 1, embedder)
        for embedder in ("sface", "random")
    }
    return report


def _size(rows: int) -> str:
    return f"{rows // 1000}k" if rows < 1_000_000 else f"{rows // 1_000_000}m"


def _apart(options: argparse.Namespace, section: str, rows: int, threads: int, *more: str) -> dict[str, Any]:
    """In a process of its own: BLAS takes its number of threads from the environment, once."""
    print(f"{section}: {rows:,} rows, {threads} threads {' '.join(more)}", file=sys.stderr, flush=True)
    words = ["--child", "--only", section, "--rows", str(rows), "--threads", str(threads)]
    if more:
        words += ["--features", str(options.features), "--embedder", *more]
    command = [sys.executable, __file__, *words, "--rounds", str(options.rounds)]
    # The OpenBLAS within faiss is older, and takes a processor that it does not know for one of 2004: a
    # quarter of the speed. Both get the kernels that NumPy's would choose.
    environment = {
        "OPENBLAS_CORETYPE": _architecture(),
        **os.environ,
        **dict.fromkeys(_THREADS, str(threads)),
    }
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1), file=sys.stderr, flush=True)
    return found


def _architecture() -> str:
    """The processor whose kernels NumPy's OpenBLAS has chosen; empty where it has another BLAS."""
    import numpy
    from threadpoolctl import threadpool_info

    site = os.path.realpath(Path(numpy.__file__).parents[1])
    for each in threadpool_info():
        library = os.path.relpath(os.path.realpath(each["filepath"]), site)
        if each["internal_api"] == "openblas" and library.startswith("numpy"):
            return str(each["architecture"])
    return ""


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    from match_dedup import dedup
    from match_job import job
    from match_memory import memory
    from match_search import search

    rows, threads = options.rows[0], options.threads[0]
    if options.only == SUBSPACE:
        from match_subspace import few_dimensions, few_dimensions_dedup

        measured = few_dimensions_dedup if options.dedup else few_dimensions
        return measured(options.features, options.embedder, rows, options.rounds)
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "search": lambda: search(rows, threads, options.rounds),
        "dedup": lambda: dedup(rows, threads),
        "memory": lambda: memory(rows),
        "job": lambda: job(rows),
    }
    return sections[options.only]()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", help="templates in the gallery")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="T")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns that each side takes")
    parser.add_argument(
        "--only", choices=(*SECTIONS, SUBSPACE), metavar="SECTION", help="one section: %(choices)s"
    )
    parser.add_argument(
        "--features",
        type=Path,
        default=ROOT / "out/bench-lfw",
        metavar="FOLDER",
        help="of subspace: enroll output of LFW with its three embedders; made where it is not there",
    )
    parser.add_argument(
        "--shared", type=Path, default=SHARED, metavar="FOLDER", help="with data/lfw and models"
    )
    parser.add_argument(
        "--pairs-of", type=int, nargs="*", default=[100_000], metavar="N", help="of subspace: rows of a dedup"
    )
    parser.add_argument("--embedder", help=argparse.SUPPRESS)
    parser.add_argument("--dedup", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
