"""Scores counted as they come, side by side with bare NumPy in one run. The last line printed is JSON.

    python benchmarks/metrics.py                            everything: about eight minutes on two cores
    python benchmarks/metrics.py --only count --scores 1e8  half a minute
    python benchmarks/metrics.py --only product
    python benchmarks/metrics.py --only identification      reports of up to 10,000 probes x 1,000,000 people
    python benchmarks/metrics.py --only matrix              the report of a matrix of 3,000 x 3,000 scores

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
SECTIONS = ("count", "memory", "agree", "product", "job", "identification", "matrix")


def main() -> None:
    options = _parser().parse_args()
    if options.child:
        print(json.dumps(_measured(options)))
        return
    from machine import machine

    report: dict[str, Any] = {"bench": "metrics", "machine": machine()}
    for section in SECTIONS if options.only is None else (options.only,):
        report[section] = _apart(options, section)
    print(json.dumps(report))


def _apart(options: argparse.Namespace, section: str) -> dict[str, Any]:
    """In a process of its own: BLAS takes its number of threads from the environment, once."""
    print(f"{section}: {options.scores:,} scores", file=sys.stderr, flush=True)
    words = ["--child", "--only", section, "--scores", str(options.scores), "--rounds", str(options.rounds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, env=environment, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1), file=sys.stderr, flush=True)
    return found


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    from metrics_count import agree, count, memory
    from metrics_identification import identification
    from metrics_matrix import matrix
    from metrics_product import job, product

    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "count": lambda: count(options.scores),
        "memory": lambda: memory(options.scores),
        "agree": agree,
        "product": lambda: product(options.rounds),
        "job": lambda: job(options.scores),
        "identification": identification,
        "matrix": matrix,
    }
    return sections[options.only]()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scores", type=lambda text: int(float(text)), default=10**9, metavar="N", help="default: 1e9"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns that each side takes")
    parser.add_argument("--only", choices=SECTIONS, metavar="SECTION", help="one section: %(choices)s")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
