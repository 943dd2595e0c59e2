"""Read a finished enroll run as a source of templates: its recipe, time and number of faces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from frpipe.core.errors import FileDamaged, ModelError, OutputError
from frpipe.core.recipe import Recipe
from frpipe.gallery.schema import EMBEDDING
from frpipe.gallery.spec import GallerySpec
from frpipe.io.output import run
from frpipe.io.output.features import Features, no_output
from frpipe.io.storage.folder import Folder
from frpipe.io.storage.whole_file import read_json
from frpipe.models.registry import Registry

_HASHES = ("embedder_hash", "preprocessing_hash", "detector_hash")


@dataclass(frozen=True, slots=True)
class FeatureRun:
    """A finished enroll run.

    spec: of a gallery that can hold its features.  run_id: hash of the manifest's content, short.
    created: when the run began.  faces: rows of `faces`.  embedder: the further one whose embeddings these
    are; None: the first.
    """

    folder: Folder
    spec: GallerySpec
    manifest: str
    run_id: str
    created: datetime
    faces: int
    embedder: str | None = None

    @classmethod
    def open(cls, uri: str, embedder: str | None = None) -> FeatureRun:
        """Open the run in an output folder.

        embedder: by the name of its card; None: the first.  Raises OutputError where there is no run, it has
        not ended, or it has no such embedder.
        """
        folder = Folder.at(uri)
        report = run.complete(folder)
        if report is None:
            if folder.exists(run.ERASING):
                raise OutputError(*run.erasure_under_way(folder))
            if folder.exists(run.SUCCESS):
                raise OutputError(
                    f"{uri} is marked as finished, and files of it are not there, or not of their size",
                    f"see which with `frpipe check {uri}`, then run the job that made it again",
                )
            raise OutputError(
                f"{uri} is not the output of a finished enroll run: it has no {run.SUCCESS}",
                "run jobs/enroll.py to its end; the same command goes on where it stopped",
            )
        try:
            facts = read_json(folder, run.RUN)
            manifest, run_id = str(facts["manifest"]), str(facts["identity"]["manifest"])[:12]
            faces = int(report["faces"])
        except (FileNotFoundError, FileDamaged, ValueError, KeyError, TypeError):
            raise OutputError(f"{run.RUN} in the enroll output cannot be read", "enroll again") from None
        embedder = _further(uri, facts, embedder)
        spec = _recipe(Features(folder, embedder), facts["identity"].get("recipe"))
        return cls(folder, spec, manifest, run_id, _created(folder, facts), faces, embedder)

    @property
    def features(self) -> Features:
        """The reader of its parts."""
        return Features(self.folder, self.embedder)

    @property
    def digest(self) -> str:
        """The digest of these features: SHA-256 of the list of files, and the further embedder, if any."""
        digest = run.digest(self.folder)
        return digest if self.embedder is None else f"{digest} {self.embedder}"

    def remedy(self, gallery: GallerySpec) -> str:
        """The remedy where a gallery was made with another recipe: enroll the same photos again."""
        again = self.again(gallery)
        return f"enroll the manifest again with the gallery's settings: {again}; or use another gallery"

    def again(self, made: GallerySpec) -> str:
        """The command that enrolls the same photos with the models of `made`, whatever the default is."""
        roles = {"detect": made.detector_hash, "embed": made.embedder_hash}
        names = {role: card_name(sha256) for role, sha256 in roles.items()}
        models = " ".join(f"--set {role}.model={name}" for role, name in names.items() if name)
        return f"frpipe run enroll --manifest {self.manifest} --output NEW {models}".rstrip()


def card_name(sha256: str) -> str | None:
    """The name of the first card that pins these weights, if there is one."""
    return next(iter(card_names(sha256)), None)


def card_names(sha256: str) -> list[str]:
    """The names of all cards that pin these weights: a card of one's own may be of the same file."""
    try:
        cards = Registry.default().cards().values()
    except ModelError:
        return []
    return [card.name for card in cards if card.sha256 == sha256]


def stored_settings(uri: str) -> list[str]:
    """The settings that a run was begun with, as `--set` takes them. Raises OutputError: no run."""
    config = run.begun(Folder.at(uri)).get("config")
    if not isinstance(config, dict):
        raise no_output(uri)
    return [f"{name}={json.dumps(value)}" for name, value in flat(config).items()]


def flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested sections to dotted names; lists are values, and so are empty sections."""
    leaves: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{above}{name}.")
        else:
            leaves[above + name] = value
    return leaves


def _created(folder: Folder, facts: dict[str, Any]) -> datetime:
    """The time when the run began: as run.json says, else as old as a local run.json is, else now."""
    if "created" in facts:
        return datetime.fromisoformat(str(facts["created"])).astimezone(UTC)
    version = folder.entry(run.RUN).version
    if folder.is_local and version.isdigit():
        return datetime.fromtimestamp(int(version) // 10**9, UTC)
    return datetime.now(UTC)


def _further(uri: str, facts: dict[str, Any], embedder: str | None) -> str | None:
    """The name of a further embedder, by its name or an alias; None for the first, however it is called."""
    recipe = facts["identity"].get("recipe", {})
    first = Recipe.stored(recipe).first_embedder if recipe else None
    if embedder is None:
        return None
    there = [name for name in (first, *recipe.get("embedders", {})) if name]
    found = Registry.default().among(there, embedder)
    if found is None:
        raise OutputError(
            f"{uri} has no embeddings of {embedder}",
            f"name one that it has ({', '.join(there)}), or enroll with it in the list `embed` "
            "(docs/configuration.md)",
        )
    return None if found == first else found


def _recipe(features: Features, recipe: Mapping[str, Any] | None) -> GallerySpec:
    """Read dimension and hashes from the first file of an embedder. recipe: as run.json has it."""
    parts = features.parts()
    if not parts:
        raise no_output(features.folder.uri)
    schema = features.faces(parts[0], [EMBEDDING]).schema
    try:
        hashes = {name: (schema.metadata or {})[f"frpipe.{name}".encode()].decode() for name in _HASHES}
    except KeyError:
        raise OutputError(
            "the enroll output does not say which models made it", "enroll the manifest again"
        ) from None
    same = _same_vectors(recipe, features.embedder, hashes["preprocessing_hash"]) if recipe else ()
    return GallerySpec(int(schema.field(EMBEDDING).type.list_size), **hashes, same_vectors=same)


def _same_vectors(known: Mapping[str, Any], embedder: str | None, preprocessing_hash: str) -> tuple[str, ...]:
    recipe = Recipe.stored(known) if embedder is None else Recipe.stored(known).of_embedder(embedder)
    return recipe.same_vectors if recipe.preprocessing_hash == preprocessing_hash else ()
