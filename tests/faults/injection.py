"""Order a fault of `injected/sitecustomize.py`, and read what it recorded."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

INJECTED = Path(__file__).parent / "injected"

Role = Literal["driver", "worker"]
Victim = Literal["driver", "worker", "node"]
When = Literal["before", "during", "after"]


@dataclass(frozen=True)
class Point:
    """The event of a role, counted from 1, at which somebody is killed: itself, its node, or the driver."""

    role: Role
    at: int
    when: When
    victim: Victim


@dataclass(frozen=True)
class Injector:
    """The folder that FRPIPE_FAULTS names."""

    folder: Path

    def clear(self) -> None:
        """Forget all events, and plan none."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "events").write_bytes(b"")
        self.disarm()

    def arm(self, point: Point) -> None:
        (self.folder / "plan.json").write_text(json.dumps(asdict(point)))

    def disarm(self) -> None:
        (self.folder / "plan.json").unlink(missing_ok=True)

    def events(self) -> list[tuple[str, str]]:
        """(role, what) of all that happened, in order."""
        lines = map(json.loads, (self.folder / "events").read_text().splitlines())
        return [(line["role"], line["what"]) for line in lines]

    def count(self, role: Role) -> int:
        return sum(each == role for each, _ in self.events())

    def searched(self) -> list[str]:
        """The parts that a worker has searched for a photo to blame, as often as it did."""
        return [what.split()[1] for _, what in self.events() if what.startswith("search ")]

    def redone(self) -> int:
        """Shards that were begun more than once: of workers, or, where there are none, of the driver."""
        begun = Counter(what for role, what in self.events() if what.startswith("begin "))
        if not begun:
            begun = Counter(
                what for _, what in self.events() if what.startswith("create ") and "/part-" in what
            )
        return len({" ".join(what.split()[:3]) for what, times in begun.items() if times > 1})


def spread(role: Role, victim: Victim, events: int, count: int, seed: int) -> Iterator[Point]:
    """Some points, evenly over the events of an undisturbed run, each at a place that the seed decides."""
    chance = random.Random(f"{seed} {role} {victim}")
    for number in range(count):
        first, last = (events * step // count for step in (number, number + 1))
        when: When = chance.choice(("before", "during", "after"))
        yield Point(role, chance.randint(first + 1, max(last, first + 1)), when, victim)
