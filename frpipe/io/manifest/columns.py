"""The columns of a manifest: which are required, which allowed, and which types travel to the output."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa

from frpipe.core.errors import ManifestError
from frpipe.core.text import canonical_text
from frpipe.io.manifest.image_struct import HAS_BYTES

URI = "image_uri"
BYTES = "image_bytes"
ID = "image_id"
SUBJECT = "subject_id"
LOCATION = "location"
KNOWN = (URI, BYTES, ID, SUBJECT)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a manifest. `extra` are those beyond ours, nullable, dictionaries decoded.

    has_images: whether there is a column of photos as `struct<bytes, path>`.
    """

    embedded: bool
    has_id: bool
    has_subject: bool
    extra: pa.Schema
    has_images: bool = False

    @classmethod
    def of(cls, schema: pa.Schema, reserved: frozenset[str], may_embed: bool) -> Columns:
        """Read the columns of a manifest file.

        reserved: names that the output uses itself.  may_embed: whether the format can hold `image_bytes`.
        Raises ManifestError with the column that is missing, doubled, reserved or of a type we cannot carry.
        """
        names: list[str] = schema.names
        _check_names(names, reserved | {LOCATION})
        has_images = may_embed and HAS_BYTES in names
        embedded = has_images or _source(names, may_embed)
        if embedded and not has_images and ID not in names:
            raise ManifestError(f"a manifest with {BYTES} needs {ID}", "add a column of unique ids")
        for name in {URI, ID, SUBJECT} & set(names):
            _check_key(schema.field(name))
        if embedded and not has_images and not is_binary(schema.field(BYTES).type):
            raise ManifestError(
                f"{BYTES} is {schema.field(BYTES).type}, not binary", "store the encoded photo"
            )
        extra = [_carried(field) for field in schema if field.name not in (*KNOWN, HAS_BYTES)]
        return cls(embedded, ID in names, SUBJECT in names, pa.schema(extra), has_images)

    @property
    def read(self) -> list[str]:
        """Names of the columns to read for planning: all but the photos."""
        named = (
            (URI, self.has_images or not self.embedded),
            (HAS_BYTES, self.has_images),
            (ID, self.has_id),
            (SUBJECT, self.has_subject),
        )
        return [*(name for name, present in named if present), *self.extra.names]

    @property
    def key(self) -> str:
        """The column that becomes `image_id`."""
        return ID if self.has_id else URI


def _source(names: list[str], may_embed: bool) -> bool:
    if URI in names and BYTES in names:
        raise ManifestError(f"the manifest has both {URI} and {BYTES}", "leave one of them out")
    if URI in names:
        return False
    if BYTES in names and may_embed:
        return True
    found = ", ".join(map(shown, names[:8])) or "none"
    kinds = f"{URI}, nor {BYTES}" if may_embed else URI
    raise ManifestError(f"the manifest has no column {kinds} (its columns: {found})", "see docs/manifest.md")


def shown(name: str) -> str:
    """A column name made safe for a terminal: a header may hold anything."""
    return name if name.isprintable() and len(name) <= 40 else f"{name[:20]!a}..."


def _check_names(names: list[str], reserved: frozenset[str]) -> None:
    # SQL engines read names without regard to case, so two that differ by case only would collide there.
    folded = Counter(canonical_text(name.casefold()) for name in names)
    doubled = [name for name in names if folded[canonical_text(name.casefold())] > 1]
    if doubled:
        raise ManifestError(
            f"the manifest has two columns named {shown(doubled[0])}",
            "give each column a name of its own, whatever its case and Unicode form",
        )
    taken = {name.casefold() for name in reserved | set(KNOWN)}
    clash = [name for name in names if name not in KNOWN and name.casefold() in taken]
    if clash:
        raise ManifestError(
            f"the manifest's column {clash[0]} has a name that the output uses itself", "rename the column"
        )


def _check_key(field: pa.Field) -> None:
    kind = _decoded(field.type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (text or pa.types.is_null(kind) or (pa.types.is_integer(kind) and field.name != URI)):
        raise ManifestError(f"{field.name} is {field.type}, not string", "store it as text")


def _carried(field: pa.Field) -> pa.Field:
    kind = _decoded(field.type)
    refused = _refused(kind)
    if refused:
        raise ManifestError(
            f"the manifest's column {field.name} is {refused}, which some readers of Parquet lack",
            "cast it to a plain type, or leave the column out",
        )
    return pa.field(field.name, kind)


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _refused(kind: pa.DataType) -> str:
    """Find the type inside a column's type that cannot be carried to the output; None if there is none."""
    plain = (
        pa.types.is_uint64(kind)
        or pa.types.is_float16(kind)
        or isinstance(kind, pa.BaseExtensionType)
        or pa.types.is_union(kind)
        or pa.types.is_interval(kind)
        or pa.types.is_run_end_encoded(kind)
    )
    if plain:
        return str(kind)
    inner = (kind.field(i).type for i in range(kind.num_fields))
    return next((name for name in map(_refused, inner) if name), "")


def is_binary(kind: pa.DataType) -> bool:
    """Whether a type holds bytes, in whatever layout."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
