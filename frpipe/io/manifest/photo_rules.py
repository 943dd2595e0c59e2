"""Decide which files below a folder are photos of ours, and count those that are left out.

The same rules hold for a local disk and an object store. They look at names alone. Folders that systems make
hold thumbnails, deleted photos and copies: taken for photos, they would make people of their own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError
from frpipe.core.text import canonical_text
from frpipe.io.manifest.shard_ref import ShardRef, is_shard

_NAMES = "jpg jpeg jpe jfif png webp bmp dib tif tiff gif heic heif avif jp2 j2k jxl ppm pgm pnm"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in _NAMES.split())
_KINDS = {
    "raw": "3fr ari arw bay cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mef mos mrw nef nrw orf pef ptx raf "
    "raw rw2 rwl sr2 srf srw x3f",
    "video": "3g2 3gp avi flv insv m2ts m4v mkv mov mp4 mpeg mpg mts ogv vob webm wmv",
    "sidecar": "aae cos dop json on1 pp3 rrdata thm txt xml xmp",
    "design": "ai cdr clip eps indd kra pdf psb psd svg xcf",
    "archive": "7z bz2 gz rar tar tgz xz zip zst",
}
_KIND_OF = {f".{suffix}": kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}

# Linux and network storages tell upper from lower case; Windows and macOS do not.
_SYSTEM = frozenset(
    """lost+found @eaDir eaDir_tmp @tmp @sharebin #recycle #snapshot ~snapshot @Recycle @Recently-Snapshot
    @Transcode @__thumb trashbox RECYCLER RECYCLED files_trashbin files_versions""".split()  # noqa: SIM905
)
_SYSTEM_ANY_CASE = frozenset(
    (
        *("$recycle.bin", "system volume information", "config.msi", "_vti_cnf", "__macosx"),
        *("network trash folder", "network recycle bin", "temporary items", "thevolumesettingsfolder"),
        *("desktop.ini", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "zbthumbnail.info"),
    )
)
_SYSTEM_PATTERNS = {
    "*.lrdata": re.compile(r".*\.lrdata", re.I),
    "appdata_*": re.compile(r"appdata_oc[a-z0-9]{10}"),
    "found.*": re.compile(r"found\.\d{3}", re.I),
    "SYNO*_THUMB_*": re.compile(r"SYNO(PHOTO|FILE|VIDEO)_THUMB_.*"),
}
# What such a package holds beside these folders was made from what is in them.
_LIBRARIES = (".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary")
_ORIGINALS = frozenset(("originals", "masters"))
_SHOWN = 5
# For whole columns: what is surely a photo, and what may be anything but an ordinary one.
_IS_PHOTO = rf"(?i)[^/.]\.(?:{'|'.join(_NAMES.split())})\z"
_IS_ODD = "|".join(
    (
        r"(?is)[\n\r\x00]|::|\.(?:tar|tar\.gz|tgz|zip)#",
        rf"(?:{'|'.join(map(re.escape, _LIBRARIES))})/",
        r"(?:^|/)(?:\.",
        *map(re.escape, sorted(_SYSTEM | _SYSTEM_ANY_CASE)),
        *(pattern.pattern for pattern in _SYSTEM_PATTERNS.values()),
    )
)
_IS_ODD += ")"
# Of a pattern: what stands for something, and what it stands for.
_TOKEN = re.compile(r"(?<![^/])\*\*/|\*\*+|\*|\?|\[[!^]?\]?[^]/]*\]|.", re.DOTALL)
_MEANING = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
_SET_OPERATORS = re.compile(r"[\\\[\]^&~|]")


class Cause(Enum):
    """The cause for which a file or a folder is left out."""

    SYSTEM = "system"
    HIDDEN = "hidden"
    EXCLUDED = "excluded"
    NO_PHOTO = "no_photo"
    NOT_IN_GLOB = "not_in_glob"


@dataclass(slots=True)
class LeftOut:
    """Files and folders that were left out; a folder counts once, whatever is in it.

    system: by the name that says so.  no_photo: files by suffix.  special: neither files nor folders.
    repeated: members of a shard with the name of an earlier one.  shards: paths of files that are archives,
    counted in no_photo.
    """

    system: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    excluded: int = 0
    not_in_glob: int = 0
    no_photo: Counter[str] = field(default_factory=Counter)
    special: int = 0
    repeated: int = 0
    shards: list[str] = field(default_factory=list)

    def add(self, cause: Cause, path: str, *, is_link: bool = False) -> None:
        """Count a file or folder by its path. An archive that is a link is counted, and not taken for one."""
        name = path.rpartition("/")[2]
        if cause is Cause.SYSTEM:
            self.system[system_name(path) or name] += 1
        elif cause is Cause.NO_PHOTO:
            self.no_photo[_shown_suffix(name)] += 1
            if is_shard(name) and not is_link:
                self.shards.append(path)
        elif cause is Cause.HIDDEN:
            self.hidden += 1
        elif cause is Cause.EXCLUDED:
            self.excluded += 1
        else:
            self.not_in_glob += 1

    def take_shards(self) -> list[str]:
        """The archives, sorted; they are not left out any more."""
        taken, self.shards = sorted(self.shards), []
        self.no_photo -= Counter(map(_shown_suffix, taken))
        return taken

    def facts(self) -> dict[str, int]:
        """Counts for a report: of each cause, files that are no photos by their kind."""
        kinds: Counter[str] = Counter()
        for suffix, count in self.no_photo.items():
            kinds[_KIND_OF.get(suffix, "other")] += count
        causes = {
            "system": self.system.total(),
            "hidden": self.hidden,
            "excluded": self.excluded,
            "not_in_glob": self.not_in_glob,
            "special": self.special,
            "repeated": self.repeated,
        }
        return {name: count for name, count in {**causes, **kinds}.items() if count}

    def lines(self, take: str) -> Iterator[str]:
        """Lines for people. take: the option that takes systems' folders and hidden ones."""
        if self.system:
            names = _most(self.system)
            yield f"{self.system.total():,} left out, as systems make them: {names} ({take} takes them)"
        if self.hidden:
            yield f"{self.hidden:,} left out, hidden files and folders ({take} takes them)"
        if self.excluded:
            yield f"{self.excluded:,} left out, files and folders that a pattern excludes"
        if self.not_in_glob:
            yield (
                f"{counted(self.not_in_glob, 'photos')} left out: the glob does not match "
                "(* stays in its folder, ** does not)"
            )
        for kind in (*_KINDS, "other"):
            suffixes = Counter({s: n for s, n in self.no_photo.items() if _KIND_OF.get(s, "other") == kind})
            if suffixes:
                yield f"{suffixes.total():,} left out, no photos but {kind}: {_most(suffixes)}"
        if self.special:
            yield f"{self.special:,} left out, neither files nor folders"
        if self.repeated:
            yield f"{self.repeated:,} left out, members of a shard with the name of an earlier one"


class PhotoRules:
    """Rules for paths below a folder, relative to it.

    glob: photos must match it as whole paths.  exclude: patterns of files and folders to leave out; one
    without `/` is for names, at any depth, else it is for whole paths.  system: whether to take folders and
    files that systems make, and hidden ones.  Raises ConfigError: no pattern.
    """

    def __init__(self, glob: str | None = None, exclude: Iterable[str] = (), *, system: bool = False) -> None:
        self._glob = None if glob is None else Glob(glob)
        self._paths = [Glob(pattern.strip("/")) for pattern in exclude if "/" in pattern.rstrip("/")]
        self._names = [Glob(pattern.rstrip("/")) for pattern in exclude if "/" not in pattern.rstrip("/")]
        self._system = system
        self._folder: tuple[str, tuple[Cause, str] | None] = "", None

    @property
    def excludes(self) -> bool:
        """Whether there are patterns of files and folders to leave out."""
        return bool(self._paths or self._names)

    @property
    def has_patterns(self) -> bool:
        """Whether there is a glob, or there are patterns to leave out."""
        return self._glob is not None or self.excludes

    def of_folder(self, path: str) -> Cause | None:
        """The cause to leave out a folder, those above it apart; None: it is taken."""
        if not self._system:
            if path.rpartition("/")[2].startswith("."):
                return Cause.HIDDEN
            if system_name(path):
                return Cause.SYSTEM
        return Cause.EXCLUDED if self._is_excluded(path) else None

    def of_file(self, path: str) -> Cause | None:
        """The cause to leave out a file, the folders above it and the glob apart; None: it is taken."""
        return self.of_folder(path) or (None if is_photo(path) else Cause.NO_PHOTO)

    def matches(self, path: str) -> bool:
        """Whether the glob takes a photo."""
        return self._glob is None or self._glob.matches(canonical_text(path))

    def first(self, path: str, *, is_folder: bool = False) -> tuple[Cause, str] | None:
        """The topmost part of a path that is left out, and the cause, the glob apart; None: there is none."""
        if above := self._above(path.rpartition("/")[0]):
            return above
        cause = self.of_folder(path) if is_folder else self.of_file(path)
        return (cause, path) if cause else None

    def takes(self, path: str) -> bool:
        """Whether a photo of this path is taken."""
        return self.first(path) is None and self.matches(path)

    def _above(self, folder: str) -> tuple[Cause, str] | None:
        """Find what `first` finds for a folder; a listing names one folder many times in a row."""
        if folder != self._folder[0]:
            end, found = 0, None
            while end < len(folder) and found is None:
                end = (folder.find("/", end + 1) + 1 or len(folder) + 1) - 1
                cause = self.of_folder(folder[:end])
                found = (cause, folder[:end]) if cause else None
            self._folder = folder, found
        return self._folder[1]

    def _is_excluded(self, path: str) -> bool:
        if not self.excludes:
            return False
        path = canonical_text(path)
        name = path.rpartition("/")[2]
        return any(g.matches(path) for g in self._paths) or any(g.matches(name) for g in self._names)


def are_plain(paths: pa.Array) -> pa.Array:
    """(paths,) bool: photos that any manifest takes, and any rules but those with patterns.

    Of the others nothing is said.
    """
    is_photo = pc.match_substring_regex(paths, _IS_PHOTO)
    return pc.and_not(is_photo, pc.match_substring_regex(paths, _IS_ODD))


def is_photo(path: str) -> bool:
    """Whether a path has the suffix of a photo."""
    return _suffix(path.rpartition("/")[2]) in IMAGE_SUFFIXES


def may_be_listed(path: str, is_local: bool) -> bool:
    """Whether a manifest takes a path: UTF-8 on one line; in a URI no `::`, no `..` segment.

    Nor one that reads as a member of a shard.
    """
    is_path = is_local or not ("::" in path or ".." in path.split("/"))
    if path.isascii() and path.isprintable() and "#" not in path:  # what follows takes ten times as long
        return is_path
    return is_path and is_one_line(path) and ShardRef.parse(path) is None


def is_one_line(text: str) -> bool:
    """Whether a text is UTF-8 on one line, as every format of a manifest needs."""
    return not {"\n", "\r", "\0"} & {*text} and text.encode(errors="replace").decode() == text


def system_name(path: str) -> str | None:
    """The name by which a file or folder shows that a system made it; None: none does."""
    above, _, name = path.rpartition("/")
    if above.lower().endswith(_LIBRARIES) and name.lower() not in _ORIGINALS:
        return f"*{above[above.rindex('.') :].lower()}/*"
    return _system_name(name)


@lru_cache(maxsize=1 << 10)
def _system_name(name: str) -> str | None:
    if name in _SYSTEM or name.lower() in _SYSTEM_ANY_CASE:
        return name
    return next((shown for shown, pattern in _SYSTEM_PATTERNS.items() if pattern.fullmatch(name)), None)


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem and suffix else ""


def _shown_suffix(path: str) -> str:
    suffix = _suffix(path.rpartition("/")[2])
    return suffix if suffix[1:].isalnum() and len(suffix) <= 8 else ""


def _most(counts: Counter[str]) -> str:
    shown = ", ".join(f"{count:,} {name or 'without one'}" for name, count in counts.most_common(_SHOWN))
    return shown + (", ..." if len(counts) > _SHOWN else "")


class Glob:
    """A pattern for whole paths, relative and with `/` between segments.

    `*` and `?` stay in their folder, `**` does not, `[...]` is one character of a set; `**/` also stands for
    no folder at all. A character that means something is taken as it is inside brackets: `[[]`, `[*]`, `[?]`.
    A `[` that nothing closes is a bracket. Paths and patterns are compared in Unicode NFC.
    Raises ConfigError: no pattern.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._regex = re.compile("".join(map(_translated, _TOKEN.findall(canonical_text(pattern)))), re.S)
        except re.error:
            raise ConfigError(
                f"{pattern} is no pattern for paths", "write ranges as [a-z]; a bracket itself is [[]"
            ) from None

    def matches(self, path: str) -> bool:
        """Whether a path, already in NFC, matches as a whole."""
        return self._regex.fullmatch(path) is not None


def _translated(token: str) -> str:
    if token in _MEANING:
        return _MEANING[token]
    if token.startswith("**"):
        return ".*"
    if len(token) == 1:
        return re.escape(token)
    is_negated = token[1] in "!^"
    members = _SET_OPERATORS.sub(lambda found: f"\\{found[0]}", token[1 + is_negated : -1])
    return f"(?!/)[{'^' * is_negated}{members}]"
