"""The list of the nights of a folder: a file `_nights/DATE` for each, so that no others are listed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from frpipe.core.errors import ConfigError
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.jobs.nightly.journal import JOB, Facts, read_record

NIGHTS = "_nights"


@dataclass(frozen=True, slots=True)
class Past:
    """A night on the list.

    identity, base: of its `run.json`.  complete: whether it has ended with nothing held back.  steps: records
    of its finished steps.
    """

    date: str
    folder: Folder
    identity: Facts
    base: Facts
    complete: bool
    steps: Facts

    def did(self, step: str) -> bool:
        """Whether a step is finished and had something to do."""
        return "not_done" not in self.steps.get(step, {"not_done": ""})


def enter(runs: Folder, night: str) -> None:
    """Put a night on the list, before anything is written to its folder."""
    if not runs.exists(f"{NIGHTS}/{night}"):
        runs.create(f"{NIGHTS}/{night}", b"")


def strike(runs: Folder, night: str) -> None:
    """Take a night off the list, after its folder is gone."""
    runs.delete(f"{NIGHTS}/{night}")


def nights(runs: Folder) -> list[Past]:
    """Read all nights on the list whose folders are ours, oldest first."""
    return [found for name in dates(runs) if (found := _past(runs, name)) is not None]


def dates(runs: Folder) -> list[str]:
    """Read the dates on the list, sorted, also of nights whose folders are not ours."""
    names = (entry.name.rpartition("/")[2] for entry in runs.list(NIGHTS))
    return sorted(name for name in names if _is_date(name))


def last_before(past: list[Past], night: str) -> Past | None:
    """Find the newest finished night before this one. Raises ConfigError where a later one has finished."""
    finished = [each for each in past if each.complete]
    if finished and finished[-1].date > night:
        raise ConfigError(
            f"the night of {finished[-1].date} has finished, and {night} lies before it",
            "nights follow each other: the photos of a night that was left out come with the next; if the "
            "later date was a mistake, remove that night's folder: its photos come with the next, too",
        )
    earlier = [each for each in finished if each.date < night]
    return earlier[-1] if earlier else None


def _past(runs: Folder, name: str) -> Past | None:
    folder = runs.child(name)
    facts = run.begun(folder)
    if facts.get("identity", {}).get("job") != JOB or facts["identity"].get("date") != name:
        return None
    steps = read_record(folder).get("steps", {})
    return Past(name, folder, facts["identity"], facts["base"], folder.exists(run.SUCCESS), steps)


def _is_date(name: str) -> bool:
    try:
        return date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False
