"""CPU time of the split of many components, against a call of SciPy for each.

    python benchmarks/clusters.py --components 100000

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from frpipe.matching.clusters import Links, grouped

_THRESHOLD = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--components", type=int, default=100_000)
    count = parser.parse_args().components
    rng = np.random.default_rng(0)
    sizes = np.minimum(2 + rng.geometric(0.4, count), 60)
    nodes = int(sizes.sum())
    place = np.arange(nodes) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    later = np.flatnonzero(place > 0)
    # Each is linked with the one before, and with the first of its component.
    a = np.concatenate([later - 1, later - place[later]])
    b = np.concatenate([later, later])
    links = Links.best_of(a, b, rng.uniform(_THRESHOLD, 1, len(a)))
    start = time.process_time()
    grouped(nodes, links, _THRESHOLD)
    ours = time.process_time() - start
    # Of SciPy only its two calls are counted, on distances that are there.
    some = min(count, 5000)
    wide = int(sizes[:some].max())
    distance = rng.random((some, wide, wide))
    distance += distance.transpose(0, 2, 1)
    upper = [
        each[:size, :size][np.triu_indices(size, 1)] for each, size in zip(distance, sizes, strict=False)
    ]
    start = time.process_time()
    for each in upper:
        fcluster(linkage(each, "average"), 1 - _THRESHOLD, "distance")
    theirs = (time.process_time() - start) * count / some
    print(f"{count:,} components of {nodes:,} nodes: {ours:.2f} s; calls of SciPy alone {theirs:.2f} s")
    facts = {
        "components": count,
        "nodes": nodes,
        "grouped_cpu_s": ours,
        "scipy_cpu_s": theirs,
    }
    print(json.dumps({name: round(value, 3) for name, value in facts.items()}))


if __name__ == "__main__":
    main()
