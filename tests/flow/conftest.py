"""What the flow tests share: a cluster, and photos of people."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, ray_cluster

os.environ["RAY_AUTH_MODE"] = "disabled"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def job_server() -> Iterator[Cluster]:
    """A cluster to which jobs can be submitted."""
    with ray_cluster(job_server=True) as running:
        yield running


@pytest.fixture(scope="session")
def photos(real_photos: Path) -> list[Path]:
    """Sixty photos: the first of each person, where there are as many people, or else their next ones too."""
    found = sorted(real_photos.glob("*/*.jpg"), key=lambda path: (path.stem[-4:], path.parent.name))
    return [path.resolve() for path in found[:60]]
