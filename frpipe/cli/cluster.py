"""`frpipe cluster size`: memory, object store and disk of a cluster's pods, from the number of photos."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from frpipe.cli.gallery_parser import numeric, positive
from frpipe.cli.job_options import add_json
from frpipe.cli.table import table
from frpipe.core.counted import counted

if TYPE_CHECKING:
    from frpipe.core.sizing import ClusterSize

_EXAMPLES = """\
examples:
  frpipe cluster size --photos 10M --dim 512
  frpipe cluster size --photos 2M --faces 1.4 --workers 4 --cpus 15 --dim 128 --json

Photos are those of one manifest. What is computed and what was measured: docs/kubernetes.md.
"""
_UNITS = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "cluster", help="size the pods of a cluster", description="Size the pods of a cluster."
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    size = actions.add_parser(
        "size",
        help="memory, object store and disk of head and workers, from the number of photos",
        description="Memory, object store and disk of head and workers, from the number of photos.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = size.add_argument
    add("--photos", type=amount, required=True, metavar="N", help="rows of a manifest: 200000, 200k, 10M")
    add("--faces", type=numeric, default=1.0, metavar="F", help="faces a photo (default: %(default)s)")
    add("--dim", type=positive, default=512, metavar="D", help="numbers of a vector (default: %(default)s)")
    add("--workers", type=positive, default=1, metavar="N", help="worker pods (default: %(default)s)")
    add("--cpus", type=positive, default=15, metavar="N", help="CPUs of a worker pod (default: %(default)s)")
    add("--actors", type=positive, default=1, metavar="N", help="of a worker pod, where pools hand parts on")
    add("--part-rows", type=positive, default=1024, metavar="N", help="rows of a part (default: %(default)s)")
    add_json(size)
    size.set_defaults(run=_size)


def amount(text: str) -> int:
    """Parse a number of things, for argparse: 200000, 200k, 10M, 1.5G."""
    number, unit = (text[:-1], _UNITS[text[-1].lower()]) if text[-1:].lower() in _UNITS else (text, 1)
    try:
        found = float(number.replace(",", "")) * unit
    except ValueError:
        found = 0.0
    if not 1 <= found <= 1e12 or found != int(found):
        raise argparse.ArgumentTypeError("it is a whole number from 1 up, such as 200000, 200k or 10M")
    return int(found)


def _size(options: argparse.Namespace) -> int:
    from frpipe.core.errors import EXIT_OK, ConfigError
    from frpipe.core.sizing import cluster_size

    if not 0 < options.faces <= 1000:
        raise ConfigError("--faces is a mean from above 0 to 1000", "count them: `report.json` has both")
    found = cluster_size(
        options.photos,
        faces=options.faces,
        dim=options.dim,
        cpus=options.cpus,
        actors=options.actors,
        part_rows=options.part_rows,
    )
    content = {
        **asdict(found),
        "workers": options.workers,
        "workers_memory": options.workers * found.worker_memory,
    }
    print(json.dumps(content) if options.json else _text(found, options.workers))
    return EXIT_OK


def _text(found: ClusterSize, workers: int) -> str:
    rows = [
        ("memory", found.head_memory, found.worker_memory),
        ("object store, within it", found.head_object_store, found.worker_object_store),
        ("/tmp", found.head_tmp, found.worker_tmp),
    ]
    shown = table(("", "head", "a worker"), [(name, *map(_gib, values)) for name, *values in rows])
    driver = f"enroll {_gib(found.enroll_driver)}, consolidate {_gib(found.consolidate_driver)}"
    lines = [
        f"driver at its peak: {driver}; put aside by consolidate: {_gib(found.spill)}, in /tmp of the head",
        f"{counted(workers, 'workers')} in all: {_gib(workers * found.worker_memory)}",
    ]
    return "\n".join((shown, *lines))


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
