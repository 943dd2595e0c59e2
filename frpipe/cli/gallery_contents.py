"""`frpipe gallery create | enroll | delete | clear | compact`: changes of who is in a gallery."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from frpipe.cli.doubts import doubts_shown
from frpipe.cli.gallery_parser import (
    FACES,
    POLICIES,
    Commands,
    add_config,
    add_forms,
    add_gate,
    add_likeness,
    add_photos,
    add_subject_face,
    add_templates,
    answer,
    command,
    gate_of,
    hours,
    identifier,
    outcome_text,
    pairs,
    positive,
)
from frpipe.cli.gallery_suppressed import add_reason
from frpipe.cli.id_file import ids_in
from frpipe.cli.job_options import add_embedder
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, GalleryError

if TYPE_CHECKING:
    from frpipe.gallery.delete import Suppressing
    from frpipe.gallery.gallery import Gallery
    from frpipe.gallery.outcome import Outcome

_STILL = "\ntheir vectors stay in the files, and can be rolled back to, until `frpipe gallery compact`"
_KEPT_OUT = (
    "\nsuppressed: nothing brings them back; `frpipe gallery compact` takes their vectors out of the files"
)
_NO_RUNS = "\nfiles under other names are not known here: --runs RUN ... suppresses these too"


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    _add_create(commands)
    _add_enroll(commands)
    delete = command(
        commands, "delete", "take people out of a gallery", _delete, ["G 0", "G 0 17 42", "G --from ids.txt"]
    )
    delete.add_argument("ids", nargs="*", type=identifier, metavar="ID", help="ids of people")
    delete.add_argument("--from", dest="source", metavar="FILE", help="ids, one a line; - is standard input")
    delete.add_argument(
        "--runs",
        nargs="+",
        default=[],
        metavar="RUN",
        help="enroll outputs that know these people's photos: the same files are kept out under any name",
    )
    _add_suppressing(delete)
    clear = command(commands, "clear", "take everybody out of a gallery", _clear, ["G --yes"])
    clear.add_argument("--yes", action="store_true", help="do it: without this nothing happens")
    clear.add_argument("--suppress", action="store_true", help="nobody of them may come back")
    add_reason(clear)
    _add_compact(commands)


def _add_compact(commands: Commands[argparse.ArgumentParser]) -> None:
    compact = command(
        commands,
        "compact",
        "rewrite a gallery so that no file holds a deleted vector; older versions go",
        _compact,
        ["G", "G --grace 24", "G --keep-history"],
    )
    how = compact.add_mutually_exclusive_group()
    how.add_argument(
        "--grace",
        type=hours,
        default=0.0,
        metavar="HOURS",
        help="leave versions that were the newest within this time, so that their readers can end; deleted "
        "vectors stay in these until the command is run again after it (default: 0, all goes at once)",
    )
    how.add_argument(
        "--keep-history",
        action="store_true",
        help="join small shards only: every version stays, and with them the deleted vectors",
    )
    compact.add_argument(
        "--most",
        type=positive,
        metavar="N",
        help="with --keep-history: small shards (less than half full) that may be left (default: 8)",
    )


def _add_suppressing(delete: argparse.ArgumentParser) -> None:
    delete.add_argument(
        "--no-suppress",
        action="store_true",
        help="do not put them on the suppression list: an enrolment or a rollback brings them back",
    )
    add_reason(delete)


def _add_create(commands: Commands[argparse.ArgumentParser]) -> None:
    examples = ["G", "G --like out/photos", "G --set embed.model=mobilefacenet_npm --dtype float16 --encrypt"]
    parser = command(commands, "create", "make an empty gallery for one model", _create, examples)
    parser.add_argument("--like", metavar="OUT", help="for the features of this enroll output")
    add_embedder(parser, "--like")
    add_config(parser)
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16"),
        default="float32",
        help="of stored vectors (default: %(default)s)",
    )
    parser.add_argument("--encrypt", action="store_true", help="encrypt shards with AES-256-GCM")
    parser.add_argument(
        "--rows-per-shard",
        type=positive,
        default=65_536,
        metavar="N",
        help="templates in a file (default: %(default)s)",
    )


def _add_enroll(commands: Commands[argparse.ArgumentParser]) -> None:
    examples = [
        "G --features out/photos --templates mean",
        "G --photo a.jpg --id 0 --set-attribute Name=JiSoo-Kim Department='black pink'",
        "G --photo a.jpg b.jpg c.jpg --id 0",
    ]
    parser = command(commands, "enroll", "put people into a gallery", _enroll, examples)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--features", metavar="OUT", help="a finished output of jobs/enroll.py")
    add_embedder(parser, "--features")
    source.add_argument(
        "--photo", nargs="+", action="extend", metavar="PHOTO", help="photos of the person --id: all or none"
    )
    parser.add_argument("--id", type=identifier, metavar="ID", help="with --photo: whose photos they are")
    parser.add_argument(
        "--set-attribute", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="with --photo"
    )
    parser.add_argument(
        "--policy", choices=POLICIES, help="for who is there already (default: skip; with --photo append)"
    )
    add_templates(parser, "with --features: ")
    parser.add_argument(
        "--faces",
        choices=FACES,
        help="which face of a photo counts (default: centre-largest; with --photo require-one)",
    )
    add_subject_face(parser, "with --features: ")
    add_gate(parser, "with --features: ")
    add_forms(parser, "with --features: ")
    add_photos(parser)
    add_likeness(parser)
    add_config(parser)


def _create(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from frpipe.gallery.gallery import Gallery

    if options.like:
        from frpipe.jobs.features import FeatureRun

        spec = FeatureRun.open(options.like, options.embedder).spec
    else:
        from frpipe.core.config import load_config

        if options.embedder is not None:
            raise ConfigError("--embedder goes with --like", "else choose with --set embed.model=NAME")
        from frpipe.jobs.photo import spec_of

        spec = spec_of(load_config(options.config, options.set))
    spec = replace(
        spec,
        dtype=options.dtype,
        rows_per_shard=options.rows_per_shard,
        encryption="aes-256-gcm" if options.encrypt else None,
    )
    made = Gallery.create(options.gallery, spec)
    text = (
        f"made {options.gallery}: {spec.dim} numbers a vector, {spec.dtype}, "
        f"{'encrypted' if spec.encryption else 'not encrypted'}, embedder {spec.embedder_hash[:12]}"
    )
    return answer(options, {"gallery": made.uri, "gallery_id": made.gallery_id, **_facts(spec)}, text)


def _facts(spec: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(spec)  # type: ignore[call-overload, no-any-return]


def _enroll(options: argparse.Namespace) -> int:
    return _enroll_photo(options) if options.photo else _enroll_features(options)


def _enroll_photo(options: argparse.Namespace) -> int:
    if options.id is None:
        raise ConfigError("--photo needs --id", "give the id of the person on the photo")
    if options.source or options.same_photos:
        raise ConfigError(
            "--source and --same-photos go with --features", "one photo is known by its content"
        )
    if options.embedder is not None:
        raise ConfigError("--embedder goes with --features", "choose with --set embed.model=NAME")
    if options.subject_face is not None:
        raise ConfigError("--subject-face goes with --features", "choose with --faces")
    if options.forms:
        raise ConfigError("--forms goes with --features", "searches store the forms of single photos")
    if gate_of(options):
        raise ConfigError(
            "a gate goes with --features", "for --photo, have the stage judge: --set quality.policy=reject"
        )
    from frpipe.core.config import load_config
    from frpipe.gallery.gallery import Gallery
    from frpipe.jobs.gallery_photo import enroll_photos

    with doubts_shown():
        outcome = enroll_photos(
            Gallery.open(options.gallery),
            options.photo,
            options.id,
            pairs(options.set_attribute, "--set-attribute"),
            load_config(options.config, options.set),
            faces=options.faces or "require-one",
            policy=options.policy or "append",
            strict=options.strict,
            threshold=options.threshold,
        )
    return answer(options, outcome.as_dict(), outcome_text(outcome))


def _enroll_features(options: argparse.Namespace) -> int:
    if options.id is not None or options.set_attribute:
        raise ConfigError(
            "--id and --set-attribute go with --photo", "ids of features come from their manifest"
        )
    from frpipe.jobs.consolidate.job import Consolidation

    job = Consolidation(
        options.features,
        options.gallery,
        options.policy or "skip",
        options.templates,
        options.faces or "centre-largest",
        lambda line: print(line, file=sys.stderr, flush=True),
        options.source,
        options.same_photos,
        options.strict,
        options.threshold,
        embedder=options.embedder,
        subject_face=options.subject_face or "rule",
        gate=gate_of(options),
        forms=options.forms,
    )
    with doubts_shown():
        done = job.run()
    return answer(options, done.as_dict(), done.text())


def _delete(options: argparse.Namespace) -> int:
    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery

    ids = [*options.ids, *ids_in(options.source)]
    if not ids:
        raise ConfigError("no ids are given", "give them as arguments, or in a file with --from")
    gallery = Gallery.open(options.gallery)
    suppress = None if options.no_suppress else _suppressing(options, gallery, ids)
    outcome = lifecycle.delete(gallery, ids, suppress=suppress)
    if not outcome.subjects:
        raise GalleryError(
            f"nobody was deleted: none of the {outcome.unknown:,} ids is in the gallery"
            if outcome.unknown > 1
            else "nobody was deleted: nobody of this id is in the gallery",
            "`frpipe gallery list` shows who is",
        )
    absent = f", {outcome.unknown:,} unknown" if outcome.unknown else ""
    still = _STILL if options.no_suppress else _KEPT_OUT + ("" if options.runs else _NO_RUNS)
    answer(options, outcome.as_dict(), f"{_gone(outcome)}{absent}; version {outcome.version}{still}")
    return GalleryError.exit_code if outcome.unknown else 0


def _suppressing(options: argparse.Namespace, gallery: Gallery, ids: list[str]) -> Suppressing:
    from frpipe.gallery.delete import Suppressing
    from frpipe.io.storage.folder import Folder
    from frpipe.jobs.doctor.runs import sources_of
    from frpipe.jobs.erase.photos import photos_of

    runs = [Folder.at(run) for run in options.runs]
    known = photos_of(runs, ids, sources=sources_of(gallery, runs))
    if known.shared:
        print(
            f"warning: {len(known.shared):,} of their photos are other people's too: not suppressed "
            "by their files",
            file=sys.stderr,
        )
    return Suppressing(options.reason, options.by, known.by_subject)


def _clear(options: argparse.Namespace) -> int:
    if not options.yes:
        raise ConfigError("clear takes everybody out of the gallery", "say --yes if that is meant")
    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery

    suppress = lifecycle.Suppressing(options.reason, options.by) if options.suppress else None
    outcome = lifecycle.clear(Gallery.open(options.gallery), suppress=suppress)
    still = (_KEPT_OUT if options.suppress else _STILL) if outcome.deleted else ""
    return answer(options, outcome.as_dict(), f"{_gone(outcome)}; version {outcome.version}{still}")


def _compact(options: argparse.Namespace) -> int:
    from datetime import timedelta

    from frpipe.gallery import lifecycle
    from frpipe.gallery.gallery import Gallery

    gallery = Gallery.open(options.gallery)
    if options.most is not None and not options.keep_history:
        raise ConfigError("--most goes with --keep-history", "add --keep-history, or leave it out")
    if options.keep_history:
        outcome = lifecycle.merge_shards(gallery, options.most or lifecycle.MOST_SMALL)
        text = f"{counted(outcome.shards, 'shards')}; every version stays; version {outcome.version}"
        return answer(options, outcome.as_dict(), text)
    outcome = lifecycle.compact(gallery, grace=timedelta(hours=options.grace))
    text = f"no file holds a deleted vector, older versions are gone; version {outcome.version}"
    if options.grace:
        left = outcome.kept_until
        text = (
            f"older versions of the last {options.grace:g} hours stay, with the vectors deleted since: "
            f"the same command after {left} takes them; version {outcome.version}"
            if left
            else f"no version is left that names a deleted vector; version {outcome.version}"
        )
    return answer(options, outcome.as_dict(), text)


def _gone(outcome: Outcome) -> str:
    noun = "person" if outcome.subjects == 1 else "people"
    return f"{outcome.subjects:,} {noun} deleted ({counted(outcome.deleted, 'templates')})"
