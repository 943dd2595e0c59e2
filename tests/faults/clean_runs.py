"""Undisturbed runs, against which the others are held."""

from __future__ import annotations

from pathlib import Path

from faulty_jobs import Job
from kill_points import Bench

# What jobs read of those before them, by the job that makes it.
NAMED = {"enroll": "features", "consolidate": "gallery", "verify": "verified"}


class Clean:
    """Undisturbed runs, each made when it is first asked for, and how many events each role had in it."""

    def __init__(self, bench: Bench, jobs: dict[str, Job], inputs: Path) -> None:
        self._bench, self._jobs, self._inputs = bench, jobs, inputs
        self._events: dict[str, dict[str, int]] = {}

    def output(self, name: str) -> Path:
        return self._inputs / NAMED.get(name, f"{name}-clean")

    def events(self, name: str) -> dict[str, int]:
        if name not in self._events:
            for before in self._needs(name):
                self.events(before)
            self._events[name] = self._bench.undisturbed(self._jobs[name], self.output(name))
        return self._events[name]

    @staticmethod
    def _needs(name: str) -> tuple[str, ...]:
        needs = {"consolidate": ("enroll",), "identify": ("consolidate",), "verify": ("enroll",)}
        return {**needs, "metrics": ("verify",)}.get(name, ())
