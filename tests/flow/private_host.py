"""A process that holds a private Ray with a worker and spilled objects, until its input ends."""

from __future__ import annotations

import json
import os
import sys
from functools import partial

import numpy as np
import ray

from frpipe.runtime.session import cluster

_STORE = 80 * 2**20


class Worker:
    """An actor, as the pools of a job have them."""

    def environment(self) -> dict[str, str]:
        return dict(os.environ)


def main() -> None:
    ray.init = partial(ray.init, object_store_memory=_STORE)
    mask = os.umask(0o022)
    with cluster(say=lambda _: None):
        worker = ray.remote(num_cpus=0)(Worker).remote()
        held = [ray.put(np.full(_STORE // 3, each, np.uint8)) for each in range(4)]
        facts = {
            "address": ray.get_runtime_context().gcs_address,
            "folder": ray._private.worker._global_node.get_session_dir_path(),
            "umask": _mask(),
            "worker": ray.get(worker.environment.remote()),
            "held": len(held),
        }
        _tell(facts)
        sys.stdin.read()
    os.umask(mask)
    _tell({name: value for name, value in os.environ.items() if name.startswith("RAY_AUTH")})


def _tell(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _mask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    main()
