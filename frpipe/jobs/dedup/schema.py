"""The columns that deduplication writes: pairs of templates, and clusters of subjects."""

from __future__ import annotations

import pyarrow as pa

from frpipe.core.schema import Column

DEDUP_VERSION = 1
SAME_PHOTO = "same_photo"
SAME_PERSON = "same_person"

PAIR_COLUMNS = (
    Column("subject_a", pa.string(), "the subject of the one template; always the smaller id of the two"),
    Column("face_a", pa.string(), "id of that template"),
    Column("subject_b", pa.string(), "the subject of the other template"),
    Column("face_b", pa.string(), "id of that template"),
    Column("image_uri_a", pa.string(), "where the photo of the one lies, where that is known", True),
    Column("image_uri_b", pa.string(), "where the photo of the other lies, where that is known", True),
    Column("similarity", pa.float64(), "cosine of the two templates, exact, from the threshold to 1"),
    Column("distance", pa.float64(), "1 - similarity"),
    Column("kind", pa.string(), "`same_photo` or `same_person`"),
)
PAIR_SCHEMA = pa.schema([column.field for column in PAIR_COLUMNS])

CLUSTER_COLUMNS = (
    Column("cluster_id", pa.string(), "subjects that are alike on the whole; kept from night to night"),
    Column("component_id", pa.string(), "subjects that are linked at all, over any number of others"),
    Column("subject_id", pa.string(), "a subject of the cluster; each subject stands in one row"),
    Column("size", pa.int32(), "subjects of the cluster; 1 for who was split off from a component"),
    Column("keeper", pa.bool_(), "whether this is the subject to keep, by template quality"),
    Column("quality", pa.float32(), "the best quality of the subject's templates", True),
    Column("enrolled_at", pa.timestamp("us", tz="UTC"), "when the first of them was enrolled", True),
    Column("similarity_mean", pa.float64(), "mean over the cluster's linked pairs; null where alone", True),
    Column("weak", pa.bool_(), "whether the component was too large to be split, and is one cluster"),
)
CLUSTER_SCHEMA = pa.schema([column.field for column in CLUSTER_COLUMNS])
