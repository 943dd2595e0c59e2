"""Which rows of an enroll output are meant: by why they were rejected, or for want of a face."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from frpipe.core.errors import ConfigError
from frpipe.core.reasons import Reason, Status
from frpipe.io.output.features import Features

NO_FACE = Status.NO_FACE.value
_EVERY_REASON = frozenset(reason.value for reason in Reason)
# Who is suppressed is not done again unless that is asked for by name.
_WORTH_IT = _EVERY_REASON - {Reason.SUPPRESSED.value}


@dataclass(frozen=True, slots=True)
class Choice:
    """causes: reasons for a rejection, and `no_face`."""

    causes: frozenset[str]

    @classmethod
    def of(cls, reasons: Sequence[str] = (), no_face: bool = False) -> Choice:
        """reasons: names, `no_face` among them; none at all means every reason.

        Raises ConfigError for a name that is no reason, with the nearest that is one.
        """
        for name in reasons:
            if name not in _EVERY_REASON | {NO_FACE}:
                near = difflib.get_close_matches(name, sorted(_EVERY_REASON), n=1, cutoff=0.0)[0]
                raise ConfigError(f"{name!r} is no reason for a rejection", f"did you mean {near}?")
        return cls((frozenset(reasons) or _EVERY_REASON) | ({NO_FACE} if no_face else set()))

    @classmethod
    def again(cls, reasons: Sequence[str] = (), no_face: bool = False) -> Choice:
        """As `of`, for what is done again: none at all means every reason but `suppressed`."""
        return cls.of(reasons or sorted(_WORTH_IT), no_face)

    def __str__(self) -> str:
        if self.causes >= _WORTH_IT:
            return "any reason" + (" or no face" if NO_FACE in self.causes else "")
        return ", ".join(sorted(self.causes))

    def mask(self, images: pa.Table) -> pa.ChunkedArray:
        """(rows,) bool: which of the images are meant. images: at least `status` and `reason`."""
        return pc.is_in(causes_of(images), value_set=pa.array(sorted(self.causes), pa.string()))

    def in_part(self, run: Features, part: int) -> pa.ChunkedArray:
        """The same of the images of a published part."""
        return self.mask(run.images(part, ("status", "reason")))

    def among(self, images: pa.Table, faces: pa.Table) -> pa.ChunkedArray:
        """The same of a part's tables."""
        del faces
        return self.mask(images)


def causes_of(images: pa.Table) -> pa.ChunkedArray:
    """Why each row has no face of its own: its reason, `no_face`, or null where it is `ok`."""
    return pc.if_else(pc.equal(images["status"], NO_FACE), NO_FACE, images["reason"])
