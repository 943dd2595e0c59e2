"""Sources of published tables whose photos were moved to other sources, for good.

ROOT/_sources/000001.json   one move, created once. Whatever is published of a source that was moved is
                            published of the other: an older night, say, that is published anew
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from frpipe.core.errors import FileDamaged, OutputError
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.jobs.publish.sources import Publication

FOLDER = "_sources"
_NAME = re.compile(rf"{FOLDER}/(\d{{6}})\.json")


@dataclass(frozen=True, slots=True)
class MovedSources:
    """The moves of a root.

    targets: by the source that was moved, where its photos are now.  count: of moves.
    """

    targets: Mapping[str, str] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def read(cls, folder: Folder) -> MovedSources:
        """Read the moves, in their order. Raises OutputError where one cannot be read."""
        found = cls()
        for name in sorted(entry.name for entry in folder.list(FOLDER) if _NAME.fullmatch(entry.name)):
            try:
                data = read_json(folder, name)
                found = found.with_move(str(data["from"]), str(data["to"]))
            except (FileNotFoundError, FileDamaged, KeyError, TypeError):
                raise OutputError(
                    f"{name} of the tables cannot be read", "put it back from a backup"
                ) from None
        return found

    def with_move(self, source: str, target: str) -> MovedSources:
        """Add a move. What was moved to the source before goes along."""
        targets = {each: target if now == source else now for each, now in self.targets.items()}
        targets[source] = target
        targets.pop(target, None)
        return MovedSources(targets, self.count + 1)

    def refuse(self, source: str, target: str) -> None:
        """Raise OutputError for a move that leads nowhere."""
        if source == target:
            raise OutputError(f"{source} is one source, and not two", "name the other one second")
        if source in self.targets:
            where = self.of(source)
            raise OutputError(f"{source} was moved to {where} before", f"move {where} to {target}")
        if self.targets.get(target, source) != source:
            raise OutputError(
                f"{target} was moved to {self.of(target)} before", f"move {source} to {self.of(target)}"
            )

    def of(self, source: str) -> str:
        """Where the photos of a source are now."""
        return self.targets.get(source, source)

    def names_of(self, source: str) -> set[str]:
        """The source, and those that were moved to it."""
        return {source, *(each for each, now in self.targets.items() if now == source)}

    def publication(self, found: Publication) -> Publication:
        """Make a publication of the source where its photos are now."""
        searches = tuple(replace(each, source=self.of(each.source)) for each in found.searches)
        return replace(found, source=self.of(found.source), searches=searches)


def record(folder: Folder, source: str, target: str) -> MovedSources:
    """Record a move, once. Raises OutputError for one that leads nowhere."""
    while True:
        found = MovedSources.read(folder)
        if found.targets.get(source) == target:
            return found
        found.refuse(source, target)
        document = json.dumps({"from": source, "to": target}, ensure_ascii=False) + "\n"
        if folder.create(f"{FOLDER}/{found.count + 1:06d}.json", document.encode()):
            return found.with_move(source, target)
