"""Use faces in pipelines of your own: photos to faces by the batch, outputs and galleries as Ray Datasets.

    EmbedFaces    a callable for `map_batches`, or for a batch at hand: photos in, a row for each face out
    features      the faces of a finished enroll output
    templates     the templates of a gallery, at a version

Only `features` and `templates` need Ray, and load it when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from frpipe.core.config import Config, load_config
from frpipe.core.errors import ConfigError, FaceError, GalleryError
from frpipe.core.reasons import Reason, Reject
from frpipe.core.schema import MANIFEST_NAMES, stage_of
from frpipe.gallery.catalog import VersionId
from frpipe.gallery.gallery import Gallery
from frpipe.gallery.schema import EMBEDDING, template_schema
from frpipe.io.manifest.fetch import sized
from frpipe.io.output.held import divided
from frpipe.jobs.face_pipeline import encoded
from frpipe.jobs.features import FeatureRun
from frpipe.stages.chain import StageChain
from frpipe.stages.embedders import Embedders
from frpipe.stages.locate import locator_of
from frpipe.stages.models import Models
from frpipe.stages.tabulate import tabulate

if TYPE_CHECKING:
    from ray.data import Dataset

__all__ = ["EmbedFaces", "features", "templates"]

PHOTOS = ("bytes", "image")
"""Columns that are taken for the photos where none is named."""
_OF_PHOTO = (
    *("status", "reason", "detail", "width", "height", "faces_detected", "turn_deg"),
    *("captured_at", "captured_at_zone"),
)
# A manifest's columns are the user's own here, and the policy is a setting of his.
_NOT_OF_FACE = frozenset({"face_id", "face_policy", *MANIFEST_NAMES})


class EmbedFaces:
    """Find, align and embed the faces of photos, as the enroll job does with the same settings.

    config: settings as an object, or as the `section.key=value` that `--set` takes; none: the defaults.
    photos: the column with the photos; None: `bytes` or `image`.

    The models are loaded here, once for each instance; pickled, an instance takes its settings along and
    loads them anew. Raises ConfigError, or ModelError and its kin, as a job would at its start.
    """

    def __init__(self, config: Config | Sequence[str] = (), photos: str | None = None) -> None:
        self._given = (config, photos)
        self._photos = photos
        models = Models.of(config if isinstance(config, Config) else load_config(None, config))
        self._config, self._version = models.config, models.recipe.schema_version
        self._later = models.recipe.columns
        self._chain = StageChain.of(models.config, models.stage_cards)
        enlarged = self._chain.enlarged
        self._locator = locator_of(models.config, models.detector, models.judge, enlarged=enlarged)
        self._embedders = Embedders(models.config, (models.embedder, *models.further), models.recipe)
        # Models reuse their memory: one call at a time.
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[EmbedFaces], tuple[Any, ...]]:
        return EmbedFaces, self._given

    def __call__(self, batch: Any) -> pa.Table:
        """Make a row for each face, best first, in the order of the photos; one for a photo without a face.

        batch: an Arrow table, a pandas frame, or NumPy arrays by name. A photo is a file's bytes, or
        (H, W, 3) uint8 RGB pixels, upright. Its other columns come first in each of its rows; behind them
        stand `status`, `reason` and `detail` of the photo and what else is known of it, and then the columns
        of `faces` (docs/outputs.md) with `embedding`, of length 1; a face that a stage
        holds back has no row. The columns of a face are null in the row
        of a photo without one. A further embedder has `NAME/embedding` and `NAME/norm`.
        A photo that cannot be used is a row with its reason. Raises ConfigError where the batch has no column
        of photos, or one that has the name of a column of the result.
        """
        photos, own = self._split(batch)
        rows = len(photos)
        plan = pa.table(_plan_columns(rows))
        with self._lock:
            outcomes = list(self._locator.locate(map(self._bytes, photos)))
            policy = self._config.detect.policy
            located = tabulate(
                0, plan, outcomes, [1] * rows, policy, version=self._version, later=self._later
            )
            images, every = self._embedders(self._chain(located))
        faces, _ = divided(every)
        owners = faces["image_id"].cast(pa.int64()).to_numpy()
        photo, face = _left_join(rows, owners)
        carried = own.take(photo) if own.num_columns else own
        return _beside(carried, _of_photos(images).take(photo), _of_faces(faces).take(face))

    def _split(self, batch: Any) -> tuple[list[Any], pa.Table]:
        """The photos, and the other columns."""
        names = batch.column_names if isinstance(batch, pa.Table) else [*batch]
        name = self._column(names)
        if isinstance(batch, pa.Table):
            return [value.as_py() for value in batch[name]], batch.drop_columns([name])
        others = {each: _array(each, batch[each]) for each in names if each != name}
        return list(batch[name]), pa.table(others)

    def _column(self, names: Sequence[str]) -> str:
        wanted = PHOTOS if self._photos is None else (self._photos,)
        found = [name for name in wanted if name in names]
        if len(found) == 1:
            return found[0]
        there = ", ".join(map(repr, names)) or "none"
        raise ConfigError(
            f"{'two columns' if found else 'no column'} of a batch may be the photos: it has {there}",
            f"name it: EmbedFaces(photos=...); else it is {' or '.join(PHOTOS)}",
        )

    def _bytes(self, photo: Any) -> bytes | Reject:
        if isinstance(photo, dict):  # as the datasets library hands an image on
            photo = photo.get("bytes")
        if photo is None:
            return Reject(Reason.EMPTY, "null")
        try:
            if isinstance(photo, bytes | bytearray | memoryview):
                return sized(bytes(photo), self._config.decode.max_bytes)
            return encoded(np.asarray(photo))
        except Reject as why:
            return why
        except FaceError:
            return Reject(Reason.UNKNOWN_FORMAT, "neither bytes nor (H, W, 3) uint8 RGB")


def features(uri: str, embedder: str | None = None, columns: Sequence[str] | None = None) -> Dataset:
    """Read the faces of a finished enroll output as a Ray Dataset, a part a task, when they are wanted.

    embedder: the further one whose `embedding` and `norm` the rows have, by the name of its card; None: the
    first.  columns: of `faces` (docs/outputs.md), in this order; None: all. Only files of the run are read;
    with `embedding` each is compared with its SHA-256. Raises OutputError where there is no run, it has not
    ended, or it lacks the embedder or a column. A file that is not the one that was written is FileDamaged,
    raised when it is read.
    """
    from frpipe.runtime.datasets import Piece, dataset  # noqa: PLC0415 - Ray takes seconds

    reader = FeatureRun.open(uri, embedder).features
    rows = reader.rows()
    # What is lacking is found here, not by a worker.
    schema = reader.faces(next(iter(rows)), columns).schema
    pieces = [Piece(partial(reader.faces, part, columns), counts.faces) for part, counts in rows.items()]
    return dataset("Features", schema, pieces)


def templates(uri: str, version: int | None = None, columns: Sequence[str] | None = None) -> Dataset:
    """Read a gallery's templates that are not deleted as a Ray Dataset, a shard a task, when wanted.

    version: None: the newest; either way it stays the one that it was at this call.  columns: of
    `subject_id`, `face_id`, `image_uri`, `quality`, `enrolled_at`, `embedding` (float32, length 1) and the
    gallery's attributes; None: all.
    An encrypted gallery is read with the key that each worker's own environment has. Raises GalleryError
    where there is no gallery, version or column; and when a shard is read, where the key is missing or not
    the gallery's, or a compaction has purged the version. A damaged file is GalleryDamaged.
    """
    from frpipe.runtime.datasets import Piece, dataset  # noqa: PLC0415 - Ray takes seconds

    gallery = Gallery.open(uri)
    snapshot = gallery.snapshot(version)
    there = [*snapshot.columns, EMBEDDING]
    wanted = there if columns is None else list(columns)
    if unknown := [name for name in wanted if name not in there]:
        raise GalleryError(f"there is no column {unknown[0]!r}", f"columns: {', '.join(there)}")
    schema = template_schema(gallery.spec.dim, snapshot.attributes)
    schema = pa.schema([field for field in schema if field.name in wanted])
    pieces = [
        Piece(partial(_shard, gallery, snapshot.id, number, schema.names), ref.live_rows)
        for number, ref in enumerate(snapshot.version.shards)
    ]
    return dataset("Templates", schema, pieces)


def _shard(gallery: Gallery, version: VersionId, number: int, columns: Sequence[str]) -> pa.Table:
    """The templates of a shard. The gallery comes without a key: it is read from this machine."""
    snapshot = gallery.snapshot(version.number, version.commit)
    texts = [name for name in columns if name != EMBEDDING]
    return snapshot.table_of(snapshot.version.shards[number], texts, vectors=EMBEDDING in columns)


def _plan_columns(rows: int) -> dict[str, pa.Array]:
    """Make the columns of photos that are in no manifest: each has its number for an id."""
    nothing = pa.nulls(rows, pa.string())
    return {
        **dict.fromkeys(MANIFEST_NAMES, nothing),
        "image_id": pa.array(map(str, range(rows)), pa.string()),
    }


def _left_join(photos: int, owners: NDArray[np.int64]) -> tuple[pa.Array, pa.Array]:
    """Join each row of the result with its photo, and its face or null.

    owners: of each face the photo, ascending.
    """
    without = np.setdiff1d(np.arange(photos), owners)
    of_photo = np.concatenate([owners, without])
    of_face = np.concatenate([np.arange(len(owners)), np.full(len(without), -1)])
    order = np.argsort(of_photo, kind="stable")
    return pa.array(of_photo[order]), pa.array(of_face[order], mask=of_face[order] < 0)


def _of_photos(images: pa.Table) -> pa.Table:
    """Choose the columns of a photo for each row: how it ended, and what stages found, but no times."""
    staged = [field.name for field in images.schema if _is_finding(field)]
    return images.select([*(name for name in _OF_PHOTO if name in images.column_names), *staged])


def _is_finding(field: pa.Field) -> bool:
    stage = stage_of(field)
    return stage is not None and field.name != f"{stage}_ms"


def _of_faces(faces: pa.Table) -> pa.Table:
    """Choose the columns of a face, all of which may be null."""
    fields = [
        pa.field(each.name, _nullable(each.type)) for each in faces.schema if each.name not in _NOT_OF_FACE
    ]
    return faces.select([field.name for field in fields]).cast(pa.schema(fields))


def _nullable(kind: pa.DataType) -> pa.DataType:
    """Make a type whose lists may lie in a row that has none: their numbers are null there."""
    return pa.list_(kind.value_type, kind.list_size) if pa.types.is_fixed_size_list(kind) else kind


def _array(name: str, values: Any) -> pa.Array:
    """Make a column of a batch of NumPy or pandas; arrays of several dimensions become fixed-size lists."""
    try:
        if values.dtype == object and any(np.ndim(each) > 1 for each in values):
            values = np.stack(list(values))
        if values.ndim == 1:
            return pa.array(values)
        array = pa.array(values.reshape(-1))
        for size in reversed(values.shape[1:]):
            array = pa.FixedSizeListArray.from_arrays(array, size)
    except (pa.ArrowException, TypeError, ValueError):
        raise ConfigError(
            f"the column {name!r} of a batch cannot be carried along: Arrow has no type for it",
            'leave it out before, or use batch_format="pyarrow"',
        ) from None
    return array


def _beside(*tables: pa.Table) -> pa.Table:
    """Put tables of the same rows beside each other."""
    columns: dict[str, Any] = {}
    for table in tables:
        if taken := columns.keys() & {*table.column_names}:
            raise ConfigError(
                f"the batch has a column {min(taken)!r}, which the result has too",
                "rename it before: Dataset.rename_columns",
            )
        columns |= {name: table[name] for name in table.column_names}
    return pa.table(columns)
