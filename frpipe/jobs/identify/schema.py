"""The columns that identification writes: a row for each probe, and for each photo without one."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from frpipe.core.schema import IS_SUBJECT, Column

IDENTIFY_VERSION = 1
LATER_PROBE_COLUMNS = (IS_SUBJECT,)
"""Columns that outputs begun by older code go on without."""
CANDIDATE = pa.struct(
    [
        pa.field("rank", pa.int32(), False),
        pa.field("subject_id", pa.string(), False),
        pa.field("similarity", pa.float64(), False),
        pa.field("distance", pa.float64(), False),
    ]
)

PROBE_COLUMNS = (
    Column("image_id", pa.string(), "id of the photo"),
    Column("face_id", pa.string(), "`image_id#face_index`; null for a photo that gave no probe", True),
    Column("image_uri", pa.string(), "where the photo lies, as its manifest said", True),
    Column("probe_subject_id", pa.string(), "who is on the photo, where the probes' manifest knew", True),
    Column(
        IS_SUBJECT,
        pa.bool_(),
        "whether it is that person's face, and not another on the photo; null without a probe",
        True,
    ),
    Column("status", pa.string(), "of the photo: `ok`, `no_face` or `rejected`"),
    Column("reason", pa.string(), "why it is rejected, from a closed list", True),
    Column(
        "decision",
        pa.string(),
        "`identified` or `stranger`; null without a probe, and in a closed set of nobody",
        True,
    ),
    Column("rank1_subject_id", pa.string(), "the nearest person, stranger or not", True),
    Column(
        "rank1_similarity", pa.float64(), "what they score: the best cosine, or the mean of all, -1..1", True
    ),
    Column("rank1_distance", pa.float64(), "1 - similarity", True),
    Column(
        "candidates",
        pa.list_(pa.field("item", CANDIDATE, False)),
        "the nearest persons, best first, ties by id: rank from 1, subject_id, similarity, distance",
        True,
    ),
    Column("threshold_similarity", pa.float64(), "accepted from here up; null in a closed set", True),
    Column("gallery_id", pa.string(), "the gallery that was searched"),
    Column("gallery_version", pa.int64(), "and its version"),
    Column("embedder_hash", pa.string(), "SHA-256 of the embedder's weights, of probe and gallery"),
    Column("preprocessing_hash", pa.string(), "hash of all that made a photo the embedder's input, of both"),
)
PROBE_SCHEMA = pa.schema([column.field for column in PROBE_COLUMNS])

RATIO = pa.field("llr", pa.float64(), False)
RATIO_COLUMN = Column(
    "rank1_llr",
    pa.float64(),
    "log-likelihood ratio of rank1_similarity, in nats; each of `candidates` has its own as `llr`",
    True,
)


def probe_schema(later: Collection[str] = LATER_PROBE_COLUMNS, *, calibrated: bool = False) -> pa.Schema:
    """The schema of a run. later: which of the later columns it has.  calibrated: whether it has ratios."""
    left_out = {*LATER_PROBE_COLUMNS} - {*later}
    found = pa.schema([field for field in PROBE_SCHEMA if field.name not in left_out])
    if not calibrated:
        return found
    candidates = pa.list_(pa.field("item", pa.struct([*CANDIDATE, RATIO]), False))
    place = found.get_field_index("candidates")
    return found.set(place, found.field(place).with_type(candidates)).append(RATIO_COLUMN.field)
