"""Publish finished runs and nights into tables that data engineers query, and report what that cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import OutputError
from frpipe.io.output import run
from frpipe.io.storage.folder import Folder
from frpipe.io.tables.state import State
from frpipe.io.tables.table import TARGET_BYTES, Layout
from frpipe.jobs.dedup.since import CLUSTERS
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.progress import Progress
from frpipe.jobs.publish import schema as columns
from frpipe.jobs.publish.derived import duplicate_rows, make_people
from frpipe.jobs.publish.merge import (
    Barred,
    Standing,
    Tally,
    merge_dependent,
    merge_photos,
    merge_search,
    remove_stale,
    replace_rows,
)
from frpipe.jobs.publish.move import move_source, shared_photos, sources_there
from frpipe.jobs.publish.moved_sources import MovedSources, record
from frpipe.jobs.publish.other_photos import other_photos
from frpipe.jobs.publish.result_recipe import ResultRecipe
from frpipe.jobs.publish.root import Root
from frpipe.jobs.publish.rows import RunRows
from frpipe.jobs.publish.schema import TableSpec
from frpipe.jobs.publish.sources import NIGHT, Publication, Search, probes_of, sorted_by_time
from frpipe.jobs.publish.strike import obey, purge

Say = Callable[[str], None]
Found = Callable[[Mapping[str, str]], tuple[Sequence[Publication], Sequence[str]]]
KEEP_HOURS = {"delta": 168.0, "parquet": 0.0}
"""Hours that replaced files stay: readers of Delta may use them, readers of a folder would count them."""


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication.

    runs, nights: published now.  known: published before.  unfinished: left out.  suppressed: rows that were
    taken out.  purged_files: files of older versions that were removed for it.  written: by table.  tables:
    rows, files and bytes of each table as it is now.
    """

    root: str
    layout: str
    runs: int
    nights: int
    known: int
    unfinished: Sequence[str]
    suppressed: int
    purged_files: int
    written: Mapping[str, Tally]
    tables: Mapping[str, Mapping[str, int]]
    removed_files: int
    seconds: float

    def text(self) -> str:
        """The form for people."""
        return "\n".join(self._lines())

    def as_dict(self) -> dict[str, Any]:
        """The form for programs."""
        return {**asdict(self), "unfinished": list(self.unfinished)}

    def cost(self) -> dict[str, Any]:
        """The rows, files and bytes that were written, and the seconds, for the report of a night."""
        each = self.written.values()
        return {
            "rows": sum(t.rows for t in each),
            "replaced": sum(t.gone for t in each),
            "files": sum(t.files for t in each),
            "bytes": sum(t.bytes for t in each),
            "seconds": self.seconds,
            "tables": self.root,
        }

    def _lines(self) -> Iterator[str]:
        what = [counted(self.nights, "nights")] if self.nights else []
        what += [counted(self.runs, "runs")] if self.runs or not what else []
        before = f"; {self.known:,} published before" if self.known else ""
        yield f"published  {' and '.join(what)}{before}"
        if self.unfinished:
            yield f"left out   not finished: {', '.join(self.unfinished)}"
        if self.suppressed:
            yield f"suppressed {counted(self.suppressed, 'rows')} taken out: the gallery's list names them"
        if self.purged_files:
            yield f"removed    {counted(self.purged_files, 'files')} of older versions, which had such rows"
        for name, there in self.tables.items():
            wrote = self.written.get(name, Tally())
            new = f"  (+{wrote.rows:,}, -{wrote.gone:,})" if wrote.rows or wrote.gone else ""
            yield (
                f"{name:<18} {counted(there['rows'], 'rows'):>14} in {counted(there['files'], 'files')}, "
                f"{there['bytes'] / 1e6:,.1f} MB{new}"
            )
        yield f"output     {self.root} ({self.layout}), {self.seconds:,.1f} s"


@dataclass(frozen=True)
class Publishing:
    """A publication: what, and where to.

    found: finds the finished runs and nights, and the names of those that are left out; it is given the
    content of each run that is published, by its id.  barred: the people whose rows are kept out and removed.
    embeddings, layout: settled by the first publication; None: as they are, or with vectors, as Delta.
    without: columns of manifests to leave out.  keep_hours: how long files of older versions stay; None: 168
    with Delta, else 0.  compact: whether to merge all small files now, and not only those that are due.
    move: a source whose photos are of the other from now on.  same_photos: whether photos of outputs that lie
    elsewhere than those of the same ids, and are of other content, are the same ones.

    `run` raises OutputError: a result is not finished, of another recipe or of other photos with the same
    ids, or has columns that do not fit.
    """

    root: str
    found: Found = lambda _: ((), ())
    barred: Barred = field(default_factory=Barred)
    layout: Layout | None = None
    embeddings: bool | None = None
    without: frozenset[str] = frozenset()
    target_bytes: int = TARGET_BYTES
    keep_hours: float | None = None
    compact: bool = False
    move: tuple[str, str] | None = None
    same_photos: bool = False
    say: Say = lambda _: None
    tallies: dict[str, Tally] = field(default_factory=dict)

    def run(self) -> Published:
        """Publish what is not published yet. Killed anywhere, it is completed by running it again."""
        start = time.monotonic()
        todo, known, unfinished = self._todo()
        root = self._root(todo)
        moves = self._moved(root)
        suppressed, purged = self._obey(root, moves)
        with Progress(sum(each.photos for each in todo), "photos", self.say) as progress:
            for each in todo:
                moves = self._publish(root, each, moves)
                self.say(f"{each.name} is published")
                progress.add(each.photos)
        # Also where nothing is to do: a call that was killed before this has left it.
        self._widen(root)
        self._wrote(columns.PEOPLE, make_people(root.table(columns.PEOPLE), root.table(columns.PHOTOS)))
        self._compact(root)
        # Another publisher may have brought some of them meanwhile, also of these runs.
        late, gone = self._obey(root, moves)
        purged += gone
        removed = purged + self._vacuum(root)
        return Published(
            root.folder.uri,
            root.layout,
            sum(each.kind != NIGHT for each in todo),
            sum(each.kind == NIGHT for each in todo),
            known,
            unfinished,
            suppressed + late,
            purged,
            {name: tally for name, tally in self.tallies.items() if tally.rows or tally.gone},
            sizes(root),
            removed,
            round(time.monotonic() - start, 3),
        )

    def dry_run(self) -> DryRun:
        """Report what would be published; nothing is written."""
        todo, known, unfinished = self._todo()
        root = Root.opened(self.root, self.target_bytes)
        if (settled := root or self._new(todo)) is not None:
            for each in todo:
                _refuse_other_recipe(settled, each)
        if root is not None:
            self._refuse_other(root)
            moves = self._planned_moves(root)
            for each in todo:
                if each.features is not None:
                    rows = RunRows(moves.publication(each), root.recipe)
                    refuse = partial(self._refuse_other_photos, root, rows, moves)
                    root.table(columns.PHOTOS).looked(refuse)
                for search in moves.publication(each).searches:
                    self._refuse_other_probes(root, each, search, moves)
        photos, faces = (sum(int(each.facts.get(n) or 0) for each in todo) for n in ("photos", "faces"))
        lines = [
            f"tables     {self.root}, {'to be made' if root is None else root.layout}",
            f"publish    {counted(len(todo), 'results')} with {counted(photos, 'photos')} and "
            f"{counted(faces, 'faces')}; {known:,} published before",
            *(f"           {each.name}" for each in todo[:20]),
            *([f"left out   not finished: {', '.join(unfinished)}"] if unfinished else []),
            *([f"move       photos of {self.move[0]} to {self.move[1]}"] if self.move else []),
            *(f"warning    {each}" for each in (_shared_in(root) if root is not None else ())),
        ]
        facts = {
            "root": self.root,
            "publish": [each.name for each in todo],
            "photos": photos,
            "faces": faces,
            "known": known,
            "unfinished": unfinished,
        }
        return DryRun(lines, facts)

    def _todo(self) -> tuple[list[Publication], int, list[str]]:
        """List what is to be published, in order; count what was before; name the unfinished nights."""
        root = Root.opened(self.root, self.target_bytes)
        there = published(root) if root is not None else {}
        found, unfinished = self.found(there)
        ordered = sorted_by_time(found)
        todo = [each for each in ordered if there.get(each.run_id) != each.content]
        return todo, len(ordered) - len(todo), [*unfinished]

    def _root(self, todo: Sequence[Publication]) -> Root:
        root = Root.opened(self.root, self.target_bytes)
        if root is None:
            if (new := self._new(todo)) is None:
                raise OutputError(
                    f"there are no tables in {self.root} yet, and no photos to begin them with",
                    "publish a finished enroll output, or a night with photos, first",
                )
            root = new.settled()
        self._refuse_other(root)
        return root

    def _new(self, todo: Sequence[Publication]) -> Root | None:
        """Make tables of the recipe of the first photos; nothing is written. None where there are none."""
        spec = next((each.features.spec for each in todo if each.features is not None), None)
        if spec is None:
            return None
        embeddings = True if self.embeddings is None else self.embeddings
        return Root(Folder.at(self.root), self.layout or "delta", embeddings, spec, self.target_bytes)

    def _refuse_other(self, root: Root) -> None:
        asked = {"layout": self.layout, "embeddings": self.embeddings}
        for name, value in asked.items():
            if value is not None and value != getattr(root, name):
                raise OutputError(
                    f"{name} of the tables in {self.root} was settled by their first publication: "
                    f"{getattr(root, name)}",
                    "leave the option out, or publish to another root",
                )

    def _refuse_other_photos(self, root: Root, rows: RunRows, moves: MovedSources, version: State) -> None:
        """Raise OutputError where photos of an output would replace others that only have the same ids.

        A night's gallery has refused them, and of joined sources somebody has said that they are one.
        """
        each = rows.publication
        if self.same_photos or each.kind != "enroll" or len(moves.names_of(each.source)) > 1:
            return
        if found := other_photos(root.table(columns.PHOTOS), version, rows):
            raise OutputError(
                f"{each.name}: {found.text(each.source)}; it was not published",
                "if they are other photos, give their source a name of its own with --source; if they "
                "are the same ones, moved and changed, say --same-photos",
            )

    def _refuse_other_probes(
        self, root: Root, each: Publication, search: Search, moves: MovedSources
    ) -> None:
        """Raise OutputError where the photos of a search are others than those of the same ids."""
        if (probes := probes_of(each, search)) is not None:
            refuse = partial(self._refuse_other_photos, root, RunRows(probes, root.recipe), moves)
            root.table(columns.PHOTOS).looked(refuse)

    def _moved(self, root: Root) -> MovedSources:
        """End the moves that were killed; record the one that is asked for, if any, and make it."""
        moves = self._end_moves(root, MovedSources.read(root.folder))
        if self.move is None:
            return moves
        _refuse_unknown(root, moves, self.move[0])
        return self._end_moves(root, record(root.folder, *self.move))

    def _planned_moves(self, root: Root) -> MovedSources:
        """Add the move that is asked for, if any, to those that are recorded; nothing is written."""
        moves = MovedSources.read(root.folder)
        if self.move is None or moves.targets.get(self.move[0]) == self.move[1]:
            return moves
        _refuse_unknown(root, moves, self.move[0])
        moves.refuse(*self.move)
        return moves.with_move(*self.move)

    def _end_moves(self, root: Root, moves: MovedSources) -> MovedSources:
        there = sources_there(root, moves.targets)
        for source, target in moves.targets.items():
            if source in there:
                rows = move_source(root, source, target)
                self.say(f"{counted(rows, 'rows')} of {source} are of {target} now")
        return moves

    def _obey(self, root: Root, moves: MovedSources) -> tuple[int, int]:
        """Take out whom the list names; returns how many rows, and files of older versions."""
        count = obey(root, self.barred.with_moves(moves)) if self.barred else 0
        # Also what a call has left that was killed, whatever list it obeyed.
        return count, purge(root)

    def _publish(self, root: Root, found: Publication, moves: MovedSources) -> MovedSources:
        """Merge one publication into all tables, into `runs` last; returns the moves until then."""
        _refuse_other_recipe(root, found)
        while True:
            each = moves.publication(found)
            self._merge(root, each, moves)
            now = MovedSources.read(root.folder)
            if now.targets == moves.targets:
                break
            # Rows merged while their source was moved may be of either, or have missed their photos.
            moves = self._end_moves(root, now)
        self._record(root, each)
        return moves

    def _merge(self, root: Root, each: Publication, moves: MovedSources) -> None:
        barred = self.barred.with_moves(moves)
        rows = RunRows(each, root.recipe, root.embeddings, self.without)
        photos = root.table(columns.PHOTOS)
        if each.features is not None or each.vanished is not None:
            refuse = partial(self._refuse_other_photos, root, rows, moves)
            self._wrote(columns.PHOTOS, merge_photos(photos, rows, barred, refuse))
            standing = Standing(photos, each.source, rows.keys(), _runs_of(root, each, each.source))
            for spec, made in ((columns.FACES, rows.faces), (columns.REJECTS, rows.rejects)):
                self._wrote(spec, merge_dependent(root.table(spec), standing, rows, made, barred))
            gone = remove_stale(root.table(columns.MATCHES), standing)
            self._wrote(columns.MATCHES, Tally(gone=gone))
            self._tell_shared(root, each, rows)
        for search in each.searches:
            told = partial(self._refuse_other_probes, root, each, search, moves)
            matches, runs = root.table(columns.MATCHES), _runs_of(root, each, search.source)
            found = merge_search(matches, photos, each, search, root.recipe, barred, runs, told)
            self._wrote(columns.MATCHES, found)
        if each.dedup is not None:
            self._duplicates(root, each, each.dedup, barred)

    def _record(self, root: Root, each: Publication) -> None:
        facts = {k: v for folder in each.results for k, v in ResultRecipe.of(folder).hashes.items()}
        facts |= {name: value for name, value in each.facts.items() if value is not None}
        row = {
            **{name: facts.get(name) for name in columns.RUNS.schema().names},
            "run_id": each.run_id,
            "kind": each.kind,
            "source": each.source or None,
            "night": each.night,
            "as_of": each.as_of,
            "processed_at": each.processed_at,
            "content": each.content,
            "recipe": root.recipe,
        }
        table, fresh = root.table(columns.RUNS), pa.Table.from_pylist([row], columns.RUNS.schema())
        self._wrote(columns.RUNS, replace_rows(table, "run_id", each.run_id, lambda: fresh, each))

    def _duplicates(self, root: Root, each: Publication, folder: Folder, barred: Barred) -> None:
        source = run.begun(folder)["identity"].get("source") or {}
        scope = str(source.get("gallery_id") or source.get("features") or folder.uri)
        tables = [root.table(spec) for spec in (columns.DUPLICATES, columns.MEMBERS)]
        recipe = ResultRecipe.of(folder).columns(root.recipe)

        def made(at: int) -> pa.Table:
            clusters = run.read_table(folder, CLUSTERS)
            theirs = barred.mask(clusters.append_column("scope", pa.repeat(scope, len(clusters))))
            clusters = clusters.filter(pa.array(~theirs))
            return duplicate_rows(clusters, scope, each, recipe, (tables[0].schema, tables[1].schema))[at]

        filtered = barred.filtered(galleries=[scope])
        # Members first: clusters without any are taken out by whoever obeys a list.
        for at, spec in ((1, columns.MEMBERS), (0, columns.DUPLICATES)):
            rows = replace_rows(tables[at], "scope", scope, partial(made, at), each, filtered)
            self._wrote(spec, rows)

    def _tell_shared(self, root: Root, each: Publication, rows: RunRows) -> None:
        """Warn where photos stand under another source, too."""
        sources = {*root.table(columns.RUNS).rows(["source"])["source"].to_pylist()} - {None, each.source}
        for other, count in shared_photos(root, each.source, rows.keys()).items() if sources else ():
            self.say(f"warning: {_shared_words(root, each.source, other, count)}")

    def _widen(self, root: Root) -> None:
        for spec in columns.TABLES if root.layout == "parquet" else ():
            table = root.table(spec)
            if table.head().version >= 0 and (files := table.widen()):
                self.say(f"{spec.name}: {counted(files, 'files')} written anew with later columns")

    def _compact(self, root: Root) -> None:
        for spec in columns.TABLES:
            table = root.table(spec)
            if table.head().version >= 0:
                merged, into = table.compact(every=self.compact)
                if merged:
                    self.say(f"{spec.name}: {counted(merged, 'files')} merged into {into:,}")

    def _vacuum(self, root: Root) -> int:
        hours = KEEP_HOURS[root.layout] if self.keep_hours is None else self.keep_hours
        return sum(table.vacuum(int(hours * 3_600_000)) for table in root.tables())

    def _wrote(self, spec: TableSpec, tally: Tally) -> None:
        mine = self.tallies.setdefault(spec.name, Tally())
        mine += tally


def _runs_of(root: Root, each: Publication, source: str) -> list[str]:
    """List the runs whose photos are published under a source, with those of this publication."""
    told = root.table(columns.RUNS).rows(["run_id", "source"])
    own = [each.run_id] if each.features is not None and each.source == source else []
    return [*told.filter(pc.equal(told["source"], source))["run_id"].to_pylist(), *own]


def _refuse_other_recipe(root: Root, each: Publication) -> None:
    """Raise OutputError where photos of a publication, or a search, are of another recipe than the tables."""
    if each.features is not None:
        root.refuse_other_recipe(each.features.spec, each.name)
        # A gallery of older code may know a hash of these photos, and not that of the tables.
        same = (*root.spec.same_vectors, *each.features.spec.preprocessing_hashes)
        root = replace(root, spec=replace(root.spec, same_vectors=same))
    for folder in each.results:
        root.refuse_other_recipe(ResultRecipe.of(folder).beside(root.spec), folder.uri)


def _refuse_unknown(root: Root, moves: MovedSources, source: str) -> None:
    """Raise OutputError for a source that no row is of."""
    if source not in moves.targets and not sources_there(root, {source}):
        there = {*root.table(columns.RUNS).rows(["source"])["source"].to_pylist()} - {None}
        raise OutputError(
            f"no row of the tables in {root.folder.uri} is of the source {source}",
            f"there are {', '.join(sorted(there))}",
        )


def _shared_words(root: Root, source: str, other: str, count: int) -> str:
    return (
        f"{counted(count, 'photos')} of {source} stand under {other}, too, with the same ids and contents: a "
        f"query counts them twice. Where both are one collection: frpipe run publish --tables "
        f"{root.folder.uri} --move-source {other} {source}"
    )


def _shared_in(root: Root) -> Iterator[str]:
    """Describe the photos of the tables that stand under two sources."""
    told = root.table(columns.RUNS).rows(["source", "as_of"]).sort_by("as_of")["source"].drop_null()
    sources = told.unique().to_pylist()
    for at, source in enumerate(sources):
        for other, count in shared_photos(root, source).items() if len(sources) > 1 else ():
            if other in sources[:at]:
                yield _shared_words(root, source, other, count)


def published(root: Root) -> dict[str, str]:
    """Read the content of each run that is in all tables, by run id."""
    table = root.table(columns.RUNS).rows(["run_id", "content"])
    return dict(zip(table["run_id"].to_pylist(), table["content"].to_pylist(), strict=True))


def sizes(root: Root) -> dict[str, dict[str, int]]:
    """Count the rows, files and bytes of each table as it is now."""
    found = {}
    for spec in columns.TABLES:
        head = root.table(spec).head()
        if head.version >= 0:
            found[spec.name] = {"rows": head.rows, "files": len(head.files), "bytes": head.bytes}
    return found
