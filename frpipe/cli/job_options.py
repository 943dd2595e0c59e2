"""Options that several jobs have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from frpipe.cli.gallery_parser import add_similarity, not_negative, numeric, positive, similarity
from frpipe.core.cache_size import DEFAULT_CACHE_MB
from frpipe.core.kernel_names import Wish

if TYPE_CHECKING:
    from frpipe.core.calibration import CalibrationCard
    from frpipe.jobs.node_cache import NodeCache
    from frpipe.runtime.runtime import Runtime


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of a job, called `enroll.py` or `frpipe run enroll`. description: its docstring."""
    return argparse.ArgumentParser(
        prog=Path(sys.argv[0]).name,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_threshold(
    parser: argparse.ArgumentParser, meaning: str, action: str | type[argparse.Action] = "store"
) -> argparse._MutuallyExclusiveGroup:
    """Add --threshold, --distance or --threshold-card; return the group, for what excludes all.

    meaning: of what reaches it.  action: of --threshold.
    """
    either = parser.add_mutually_exclusive_group()
    add_similarity(either, meaning, action)
    either.add_argument(
        "--threshold-card", metavar="URI", help="JSON, see docs/thresholds.md (default: the embedder's card)"
    )
    return either


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Add --calibration."""
    parser.add_argument(
        "--calibration",
        metavar="URI",
        help="a calibration card: log-likelihood ratios beside similarities, in llr (default: that of the "
        "threshold card, where it has one; docs/thresholds.md)",
    )


def calibration_card(options: argparse.Namespace) -> CalibrationCard | None:
    """Read the card of `add_calibration`; None: none was named. Raises ConfigError."""
    if not options.calibration:
        return None
    from frpipe.io import calibration_file  # stores, which other commands do without

    return calibration_file.load(options.calibration)


def add_similarities(parser: argparse.ArgumentParser, meaning: str) -> None:
    """Add --threshold and --distance, each for several."""
    add = parser.add_argument
    add("--threshold", type=numeric, nargs="+", action="extend", default=[], metavar="S", help=meaning)
    add(
        "--distance",
        type=similarity,
        nargs="+",
        action="extend",
        dest="threshold",
        metavar="D",
        help="the same as cosine distances, 0..2",
    )


def add_embedder(parser: argparse.ArgumentParser, of: str) -> None:
    """Add --embedder. of: the option that names the enroll output."""
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        help=f"whose embeddings of {of}, where it was enrolled with several (default: the first)",
    )


def add_execution(parser: argparse.ArgumentParser) -> None:
    """Add --kernel, --workers, --address, --dry-run and --json: how fast and where, never what."""
    add = parser.add_argument
    add(
        "--kernel",
        choices=get_args(Wish),
        default="auto",
        help="how likely pairs are found; the answer is the same: %(choices)s (default: %(default)s, "
        "which tries those of the CPU on a sample)",
    )
    add(
        "--no-forms",
        action="store_false",
        dest="forms",
        help="do without the rows that --kernel subspace and subspace-int8 store beside the shards of a "
        "gallery on a mounted file system, and store none",
    )
    add_workers(parser)
    add_run(parser)


def add_workers(
    parser: argparse.ArgumentParser, meaning: str = "actors (default: one for each CPU of the cluster)"
) -> None:
    """Add --workers."""
    parser.add_argument("--workers", type=positive, metavar="N", help=meaning)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add --cache-mb and --cache-dir."""
    add = parser.add_argument
    add(
        "--cache-mb",
        type=not_negative,
        default=DEFAULT_CACHE_MB,
        metavar="MB",
        help="how much of a gallery in an object store each node keeps on its disk, for all its actors: a "
        "shard is fetched once a node; 0: nothing (default: %(default)s; a tenth of the disk stays free)",
    )
    add(
        "--cache-dir",
        default="",
        metavar="DIR",
        help="where each node keeps it: a folder of its own below DIR, removed at the end (default: TMPDIR)",
    )


def cache_of(options: argparse.Namespace) -> NodeCache:
    """Make the cache of a gallery on nodes, from the options of `add_cache`."""
    from frpipe.jobs.node_cache import NodeCache

    return NodeCache(options.cache_mb, options.cache_dir)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add --address, --executor, --dry-run and --json."""
    parser.add_argument(
        "--address",
        metavar="URL",
        help="Ray cluster; default RAY_ADDRESS, else a private one on this machine",
    )
    parser.add_argument(
        "--executor",
        choices=("auto", "ray", "local"),
        default="auto",
        help="local: processes of this machine, without Ray; auto: local where there is little to do and no "
        "cluster is named (default: %(default)s)",
    )
    add_modes(parser)


def runtime_of(options: argparse.Namespace, say: Callable[[str], None]) -> Runtime:
    """Make the runtime of a job, from the options of `add_run`."""
    from frpipe.runtime.runtime import Runtime

    return Runtime(options.address, options.executor, say)


def add_modes(parser: argparse.ArgumentParser) -> None:
    """Add --dry-run and --json."""
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and print the plan; write nothing"
    )
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
