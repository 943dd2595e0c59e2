"""`frpipe gallery backup | backups | restore`: copies of a gallery, and the way back."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from frpipe.cli.gallery_parser import Commands, answer, command, identifier, numeric, positive
from frpipe.cli.table import size_text, table
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, GalleryDamaged

if TYPE_CHECKING:
    from frpipe.gallery.backups.documents import Backup
    from frpipe.gallery.backups.restoring import Restored
    from frpipe.gallery.backups.taking import Keeping, Removal, Taken

_DEST = "folder or s3:// prefix of the backups of one gallery"
_SHOWN = 10
_MOST_DAYS = 36_500


def add_commands(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    _add_backup(commands)
    listing = command(
        commands,
        "backups",
        "list the backups of a gallery, or read them back (exit code 10: a file is not as it was)",
        _backups,
        ["DEST", "DEST --check", "s3://backups/people --check --backup 3 --json"],
        gallery=False,
    )
    listing.add_argument("dest", metavar="DEST", help=_DEST)
    listing.add_argument("--check", action="store_true", help="read every file and compare its SHA-256")
    listing.add_argument("--backup", type=positive, metavar="N", help="this backup alone (default: all)")
    restore = command(
        commands,
        "restore",
        "bring a gallery back from a backup, but for people who were suppressed since",
        _restore,
        ["DEST G", "DEST G-2 --backup 3 --suppressed-from G", "DEST G --over", "DEST G --dry-run"],
        gallery=False,
    )
    restore.add_argument("dest", metavar="DEST", help=_DEST)
    restore.add_argument("gallery", metavar="G", help="folder or s3:// prefix to restore to")
    restore.add_argument("--backup", type=positive, metavar="N", help="which one (default: the newest)")
    restore.add_argument(
        "--suppressed-from",
        nargs="+",
        action="extend",
        default=[],
        metavar="H",
        help="galleries whose suppression lists hold too; that of the newest backup does, and that of the "
        "gallery that it is of, where this is still at its address",
    )
    restore.add_argument(
        "--over",
        action="store_true",
        help="where G is the gallery of the backup: make the backup its next version, under its own list",
    )
    restore.add_argument(
        "--compact",
        action="store_true",
        help="take the vectors of those who are kept out from the files; older versions go",
    )
    restore.add_argument("--dry-run", action="store_true", help="say what would be done; write nothing")


def _add_backup(commands: Commands[argparse.ArgumentParser]) -> None:
    backup = command(
        commands,
        "backup",
        "copy what is new of a gallery into a folder of backups; no key is needed",
        _backup,
        ["G DEST", "G s3://backups/people --prune --keep 14", "G DEST --prune --compacted"],
    )
    backup.add_argument("dest", metavar="DEST", help=f"{_DEST}; its own, apart from the gallery")
    backup.add_argument("--note", type=identifier, default="", help="kept in the clear: name nobody")
    backup.add_argument(
        "--check", action="store_true", help="read back what is there, and copy damaged files anew"
    )
    backup.add_argument("--dry-run", action="store_true", help="say what would be copied; write nothing")
    group = backup.add_argument_group(
        "removal of earlier backups", "the newest one stays; files that no backup needs any more go"
    )
    group.add_argument("--prune", action="store_true", help="remove the backups that are not kept")
    group.add_argument("--keep", type=positive, metavar="N", help="keep the newest N")
    group.add_argument(
        "--newer-than", type=numeric, metavar="DAYS", help="keep those younger than this; with --keep both"
    )
    group.add_argument(
        "--compacted",
        action="store_true",
        help="remove those of versions that a compaction has purged, as after an erasure",
    )


def _backup(options: argparse.Namespace) -> int:
    from frpipe.gallery.backups.taking import back_up, remove
    from frpipe.gallery.gallery import Gallery
    from frpipe.io.storage.folder import Folder

    rule = _rule(options)
    gallery, folder = Gallery.open(options.gallery), Folder.at(options.dest)
    taken = back_up(
        gallery, folder, note=options.note, check=options.check, dry_run=options.dry_run, say=_say
    )
    removal = remove(gallery, folder, rule) if rule and not options.dry_run else None
    content = {
        "is_new": taken.is_new,
        "copied": taken.copied,
        "copied_bytes": taken.copied_bytes,
        **_facts(taken.backup),
        "removed": list(removal.backups) if removal else [],
        "removed_files": removal.files if removal else 0,
        "of_another_history": removal.elsewhere if removal else 0,
    }
    lines = [_taken_text(taken, dry_run=options.dry_run), *(_removal_text(removal) if removal else ())]
    return answer(options, content, "\n".join(lines))


def _rule(options: argparse.Namespace) -> Keeping:
    from frpipe.gallery.backups.taking import Keeping

    if options.newer_than is not None and not 0 <= options.newer_than <= _MOST_DAYS:
        raise ConfigError(f"--newer-than is a number of days from 0 to {_MOST_DAYS:,}", "say --newer-than 30")
    rule = Keeping(options.keep, options.newer_than, options.compacted)
    if rule and not options.prune:
        raise ConfigError("--keep, --newer-than and --compacted go with --prune", "say --prune if meant")
    if options.prune and not rule:
        raise ConfigError(
            "which backups --prune keeps is not said", "say --keep N, --newer-than DAYS or --compacted"
        )
    return rule


def _taken_text(taken: Taken, *, dry_run: bool) -> str:
    copied = f"{counted(taken.copied, 'files')} ({size_text(taken.copied_bytes)})"
    if dry_run:
        new = "a new backup" if taken.is_new else "nothing new since the newest backup"
        return f"{new}; {copied} would be copied; nothing was written"
    begin = "" if taken.is_new else "nothing new since "
    return f"{begin}{taken.backup}, {_size(taken.backup)}; {copied} copied"


def _size(backup: Backup) -> str:
    return (
        f"{counted(backup.templates, 'templates')} in {counted(len(backup.files), 'files')} "
        f"({size_text(backup.bytes)})"
    )


def _removal_text(removal: Removal) -> list[str]:
    files = f"{counted(removal.files, 'files')} ({size_text(removal.bytes)}) that no other one needs"
    lines = [f"{counted(len(removal.backups), 'backups')} removed, with {files}"]
    if removal.elsewhere:
        lines.append(
            f"{counted(removal.elsewhere, 'backups')} of another history of the gallery kept: "
            "--keep removes them"
        )
    return lines


def _backups(options: argparse.Namespace) -> int:
    from frpipe.gallery.backups.documents import BackupFolder
    from frpipe.gallery.backups.taking import check
    from frpipe.io.storage.folder import Folder

    folder = Folder.at(options.dest)
    listed = BackupFolder(folder).read()
    chosen = listed.backups if options.backup is None else (listed.find(options.backup),)
    bad = {each.number: check(folder, each) for each in chosen} if options.check else {}
    rows = [
        (b.number, b.created, b.version, b.version_commit[:12], b.templates, size_text(b.bytes), b.note)
        for b in chosen
    ]
    header = ("backup", "taken", "version", "commit", "templates", "size", "note")
    lines = [table(header, rows), f"({counted(len(rows), 'backups')})"]
    for number, files in bad.items():
        lines += [f"backup {number}: {file.name} is missing or changed ({file.stored})" for file in files]
    damaged = any(bad.values())
    if damaged:
        lines.append("`frpipe gallery backup G DEST --check` copies anew what the gallery still has")
    elif options.check:
        lines.append("every file is as it was written")
    found = [
        {**_facts(each), "damaged": [file.name for file in bad[each.number]] if bad else None}
        for each in chosen
    ]
    answer(options, {"backups": found, "intact": not damaged if options.check else None}, "\n".join(lines))
    return GalleryDamaged.exit_code if damaged else 0


def _facts(backup: Backup) -> dict[str, object]:
    return {
        "backup": backup.number,
        "taken": backup.created,
        "note": backup.note,
        "gallery_id": backup.gallery_id,
        "version": backup.version,
        "commit": backup.version_commit,
        "templates": backup.templates,
        "suppressed": backup.suppressed,
        "encrypted": backup.encrypted,
        "files": len(backup.files),
        "bytes": backup.bytes,
    }


def _restore(options: argparse.Namespace) -> int:
    from frpipe.gallery.backups.restoring import Restoration
    from frpipe.gallery.gallery import Gallery
    from frpipe.io.storage.folder import Folder

    restored = Restoration(
        Folder.at(options.dest),
        Folder.at(options.gallery),
        options.backup,
        [Gallery.open(uri) for uri in options.suppressed_from],
        over=options.over,
        compacted=options.compact,
        say=_say,
    ).run(dry_run=options.dry_run)
    content = {
        **_facts(restored.backup),
        "restored_version": restored.version,
        "was_there": restored.was_there,
        "hidden_templates": restored.hidden,
        "newer_suppression_documents": restored.documents,
        "suppression_lists": list(restored.lists),
        "deleted_since": restored.deletions.people,
        "deleted_since_digests": sorted(restored.deletions.digests),
    }
    return answer(options, content, "\n".join(_restored_lines(options, restored)))


def _restored_lines(options: argparse.Namespace, restored: Restored) -> list[str]:
    backup = restored.backup
    if options.dry_run:
        lines = [f"{backup}, {_size(backup)} would be restored; nothing was written"]
    elif restored.was_there:
        lines = [f"the gallery has the version of {backup}; its newest version is {restored.version}"]
    else:
        lines = [f"restored {backup}, {_size(backup)}; the newest version is {restored.version}"]
    if restored.hidden:
        gone = "their vectors are out of the files" if options.compact else "`frpipe gallery compact` next"
        lines.append(f"{counted(restored.hidden, 'templates')} of suppressed people kept out: {gone}")
    if restored.deletions.people:
        digests = sorted(restored.deletions.digests)
        more = " ..." if len(digests) > _SHOWN else ""
        lines.append(
            f"{counted(restored.deletions.people, 'people were')} deleted since the backup: "
            f"{' '.join(digests[:_SHOWN])}{more}".rstrip(": ")
        )
    if restored.lists:
        lines.append(f"suppression lists that hold: the newest backup's, and of {', '.join(restored.lists)}")
    elif not options.over and not restored.was_there:
        lines.append(
            f"the gallery cannot be read at {backup.source}: whoever was deleted after the newest backup is "
            "in sight;\n  --suppressed-from H names where it is now, or delete again by the requests"
        )
    return lines


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
