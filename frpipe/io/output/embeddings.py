"""Keep the embeddings of further embedders in files of their own, a row for each row of `faces`.

In memory they stand behind the columns of faces until a part is written, so that whatever takes, drops or
merges rows of faces does the same with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from frpipe.core.errors import InvariantError
from frpipe.core.recipe import Recipe
from frpipe.core.schema import embedding_schema, vector_type

_EMBEDDER = b"frpipe.embedder"
_VECTOR, _NORM = "embedding", "norm"


def reserved(embedders: Iterable[str]) -> frozenset[str]:
    """Names that the columns have while they stand behind faces."""
    return frozenset(f"{name}/{column}" for name in embedders for column in (_VECTOR, _NORM))


def behind(faces: pa.Table, embedder: str, vectors: pa.Array, norms: pa.Array) -> pa.Table:
    """Put the unit vectors of a further embedder, and their lengths before, behind the faces."""
    for column, values in ((_VECTOR, vectors), (_NORM, norms)):
        field = _field(embedder, column, values.type)
        faces = faces.append_column(field, values.cast(field.type))
    return faces


def fields_behind(faces: pa.Schema) -> list[pa.Field]:
    """The columns of further embedders behind faces, with the types that they are written in."""
    return [
        _field(field.name.rpartition("/")[0], field.name.rpartition("/")[2], field.type)
        for field in faces
        if _EMBEDDER in (field.metadata or {})
    ]


def joined(faces: pa.Table, further: Mapping[str, pa.Table]) -> pa.Table:
    """Put the embeddings of further files behind faces. Raises InvariantError: these are of others."""
    for name, table in further.items():
        if not table["face_id"].equals(faces["face_id"]):
            raise InvariantError(f"the embeddings of {name} are not those of the faces", "keep the output")
        faces = behind(faces, name, table[_VECTOR], table[_NORM])
    return faces


def split(faces: pa.Table, recipe: Recipe) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Split off a table for each further embedder of the recipe, with the metadata of its file."""
    further = {name: _table(faces, name, recipe) for name in recipe.further}
    return without_further(faces), further


def without_further(faces: pa.Table) -> pa.Table:
    """Drop what stands behind faces of further embedders."""
    names = [field.name for field in faces.schema if _EMBEDDER in (field.metadata or {})]
    return faces.drop_columns(names) if names else faces


def _table(faces: pa.Table, name: str, recipe: Recipe) -> pa.Table:
    own = recipe.of_embedder(name)
    vectors = faces[f"{name}/{_VECTOR}"]
    schema = embedding_schema(vectors.type.list_size)
    hashes = ("detector_hash", "embedder_hash", "preprocessing_hash")
    columns = {
        "face_id": faces["face_id"],
        "image_id": faces["image_id"],
        _NORM: faces[f"{name}/{_NORM}"],
        _VECTOR: vectors,
        **{each: pa.array([getattr(own, each)] * faces.num_rows, pa.string()) for each in hashes},
    }
    metadata = {**recipe.metadata(), **{f"frpipe.{each}": getattr(own, each) for each in hashes}}
    arrays: Sequence[pa.ChunkedArray] = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema.with_metadata(metadata))


def _field(embedder: str, column: str, kind: pa.DataType) -> pa.Field:
    kind = vector_type(kind.list_size) if column == _VECTOR else kind
    return pa.field(f"{embedder}/{column}", kind, False, {_EMBEDDER: embedder.encode()})
