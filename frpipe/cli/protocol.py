"""`frpipe protocol`: the lists of data sets as pairs, galleries and probes that the jobs take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from frpipe.cli.gallery_parser import integer, numeric, positive
from frpipe.core.errors import ConfigError

if TYPE_CHECKING:
    from frpipe.protocols.protocol import Protocol

_EXAMPLES = {
    "lfw": (
        "frpipe protocol lfw lfw/ --pairs pairs.txt -o lfw-view2",
        "frpipe protocol lfw lfw/ --train pairsDevTrain.txt --test pairsDevTest.txt -o lfw-view1",
    ),
    "fglfw": ("frpipe protocol fglfw lfw/ --pairs pair_FGLFW.txt -o fglfw",),
    "open-set": (
        "frpipe protocol open-set photos.parquet --strangers 0.5 --seed 7 -o open",
        "frpipe protocol open-set photos.parquet --gallery-list g.csv --probe-list p.csv -o open",
    ),
    "closed-set": ("frpipe protocol closed-set photos.parquet --repeats 5 -o closed",),
    "pairs": ("frpipe protocol pairs mine.csv", "frpipe protocol pairs mine.csv -o mine"),
    "show": ("frpipe protocol show lfw-view2",),
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "protocol",
        help="evaluation protocols: who is compared with whom",
        description="Evaluation protocols as lists that the jobs take; see docs/protocols.md.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_lfw(actions)
    _add_fglfw(actions)
    _add_split(actions, "open-set", "divide a labelled manifest: gallery, mated probes, strangers")
    _add_split(actions, "closed-set", "divide a labelled manifest: gallery, and probes of the same people")
    _add_pairs(actions)
    show = _action(actions, "show", "say what a protocol is", _show)
    show.add_argument("place", metavar="DIR", help="folder or prefix of a protocol")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    make: Callable[[argparse.Namespace], Protocol],
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="\n".join(["examples:", *(f"  {example}" for example in _EXAMPLES[name])]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print protocol.json")
    parser.set_defaults(run=lambda options: _answer(make(options), options.json))
    return parser


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True, help="folder or s3:// prefix of the protocol"
    )
    parser.add_argument("--csv", action="store_true", help="write the lists as CSV too")


def _add_photos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help="folder or prefix of LFW's photos, in any layout")
    parser.add_argument("--errata", metavar="FILE", help="LFW's errata as text: mark pairs, drop none")
    parser.add_argument(
        "--allow-missing", action="store_true", help="keep pairs whose photos are not there; they will fail"
    )
    _add_output(parser)


def _add_lfw(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _action(actions, "lfw", "the pairs of LFW, View 1 or View 2", _lfw)
    _add_photos(parser)
    parser.add_argument("--pairs", metavar="FILE", help="View 2: pairs.txt")
    parser.add_argument("--train", metavar="FILE", help="View 1: pairsDevTrain.txt, with --test")
    parser.add_argument("--test", metavar="FILE", help="View 1: pairsDevTest.txt, with --train")


def _add_fglfw(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _action(actions, "fglfw", "the pairs of FGLFW (SLLFW): LFW with look-alikes", _fglfw)
    _add_photos(parser)
    parser.add_argument("--pairs", metavar="FILE", required=True, help="pair_FGLFW.txt or pair_SLLFW.txt")


def _add_split(actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str) -> None:
    parser = _action(actions, name, summary, _split)
    opened = name == "open-set"
    parser.set_defaults(closed=not opened, strangers=0.0)
    add = parser.add_argument
    add("manifest", metavar="MANIFEST", help="with subject_id; `frpipe manifest scan` makes one")
    _add_output(parser)
    add("--name", metavar="NAME", default=name, help="of the protocol (default: %(default)s)")
    if opened:
        add(
            "--strangers",
            type=numeric,
            default=0.5,
            metavar="SHARE",
            help="of people not enrolled (default: %(default)s)",
        )
    add(
        "--gallery-per-subject",
        type=positive,
        default=1,
        metavar="N",
        help="photos enrolled of each person (default: %(default)s)",
    )
    add(
        "--min-photos",
        type=positive,
        metavar="N",
        help="fewer are too few, see --few (default: one more than enrolled)",
    )
    add(
        "--few",
        choices=("leave-out", "gallery", "strangers") if opened else ("leave-out", "gallery"),
        default="leave-out",
        help="what becomes of people with fewer than --min-photos (default: %(default)s)",
    )
    add(
        "--seed",
        type=integer,
        default=0,
        metavar="N",
        help="another seed, another split (default: %(default)s)",
    )
    add("--repeats", type=positive, default=1, metavar="N", help="independent splits (default: %(default)s)")
    add("--gallery-list", metavar="FILE", help="no split: text or CSV of photos to enrol, with --probe-list")
    add("--probe-list", metavar="FILE", help="text or CSV of probes, with --gallery-list")


def _add_pairs(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _action(actions, "pairs", "check a list of pairs of your own, and make it a protocol", _pairs)
    parser.add_argument(
        "file", metavar="FILE", help="as jobs/verify.py takes it, with mated and perhaps fold"
    )
    parser.add_argument("--name", metavar="NAME", help="of the protocol (default: the file's)")
    parser.add_argument("-o", "--output", metavar="DIR", help="write it there; without, only check")


def _lfw(options: argparse.Namespace) -> Protocol:
    from frpipe.protocols.lfw import read_view1, read_view2
    from frpipe.protocols.source import Source
    from frpipe.protocols.verification import NamedList

    parts = [options.train, options.test]
    if bool(options.pairs) == any(parts) or any(parts) != all(parts):
        raise ConfigError("which view of LFW?", "give --pairs for View 2, or --train and --test for View 1")
    if options.pairs:
        source = Source.read(options.pairs)
        return _written(NamedList("lfw-view2", read_view2(source), [source], "other-folds"), options)
    train, test = (Source.read(part) for part in parts)
    return _written(NamedList("lfw-view1", read_view1(train, test), [train, test], "train-fold"), options)


def _fglfw(options: argparse.Namespace) -> Protocol:
    from frpipe.protocols.lfw import read_fglfw
    from frpipe.protocols.source import Source
    from frpipe.protocols.verification import NamedList

    source = Source.read(options.pairs)
    note = "folds are those of lfw-view2: threshold from its other folds, errors from these pairs"
    return _written(NamedList("fglfw", read_fglfw(source), [source], "other-protocol", [note]), options)


def _written(listed: Any, options: argparse.Namespace) -> Protocol:
    from frpipe.protocols.source import Source

    protocol: Protocol = listed.write(
        options.images,
        options.output,
        errata=Source.read(options.errata) if options.errata else None,
        allow_missing=options.allow_missing,
        csv=options.csv,
    )
    return protocol


def _split(options: argparse.Namespace) -> Protocol:
    from frpipe.protocols.identification import by_hash, by_lists
    from frpipe.protocols.labelled import LabelledPhotos
    from frpipe.protocols.source import Source
    from frpipe.protocols.split import Split

    lists = [options.gallery_list, options.probe_list]
    if any(lists) != all(lists) or (any(lists) and options.repeats > 1):
        raise ConfigError(
            "lists are two, and one split", "give --gallery-list and --probe-list, without --repeats"
        )
    photos = options.min_photos or options.gallery_per_subject + 1
    split = Split(options.strangers, options.gallery_per_subject, photos, options.few, options.seed)
    labelled = LabelledPhotos.read(options.manifest)
    if all(lists):
        division = by_lists(labelled, *(Source.read(path) for path in lists))
    else:
        division = by_hash(labelled, split, options.repeats)
    return division.write(options.name, options.output, closed=options.closed, csv=options.csv)


def _pairs(options: argparse.Namespace) -> Protocol:
    from frpipe.jobs.verify.pair_list import PairList
    from frpipe.protocols.protocol import publish, sources_of
    from frpipe.protocols.verification import checked_pairs

    listed = PairList.open(options.file)
    path = PurePosixPath(options.file)
    sources = sources_of(listed.rows_of)
    protocol, table = checked_pairs(listed.checked(), options.name or path.stem, sources)
    if options.output:
        publish(protocol, {"pairs": table}, options.output)
    return protocol


def _show(options: argparse.Namespace) -> Protocol:
    from frpipe.protocols.protocol import Protocol

    return Protocol.load(options.place)


def _answer(protocol: Protocol, as_json: bool) -> int:
    print(protocol.json_text() if as_json else protocol.words())
    return 0
