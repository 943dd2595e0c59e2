"""What the flow tests share: a cluster, and LFW photos."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from cluster import Cluster, ray_cluster

os.environ["RAY_AUTH_MODE"] = "disabled"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with ray_cluster() as running:
        yield running


@pytest.fixture(scope="session")
def photos(shared: Path) -> list[Path]:
    """Sixty LFW photos of different people."""
    people = sorted((shared / "data/lfw/images").iterdir())
    return [next(person.glob("*.jpg")).resolve() for person in islice(people, 60)]
