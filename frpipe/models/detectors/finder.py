"""Find faces on photos of any kind, turned, small or close up, and settle or refuse each.

A detector fits upright landmarks to a face that lies upside down, and is sure of it. So a photo's turn and
each doubtful face are decided by evidence: the detector's score in several looks, and the score that a judge
(a small detector of which a turned face gets a low score) gives to the face as it would be aligned. The sum
of both is highest in the right look for nearly every face (docs/adr/0018). Sure faces, nearly all in upright
photos, are looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from frpipe.core.config import SINGLE_LOOK_SIDE_PX, DetectConfig
from frpipe.models.card import LooksSpec
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.candidates import Case, FaceCandidate, apart, candidates, distinct, out_of
from frpipe.models.detectors.close_look import CloseLook
from frpipe.models.detectors.judging import Judging
from frpipe.vision.align import to_original_pixels
from frpipe.vision.decode import Photo
from frpipe.vision.view import View, turned, whole, wrapped

# Pixels by which tiles reach into their neighbours: a face of up to twice that is whole in the tile that
# holds its centre. Larger ones are found in the look at the whole photo from afar. Of a small fixed input it
# is a quarter, so that half of each tile is its own.
MARGIN_PX = 96
TILE_PX = 1280


QUARTERS = (0, 90, 180, 270)
# A look from afar has this share of the side of the first look: of a photo without a face all four turns cost
# less than that first look did. So many of its best faces are judged in each turn.
_FAR_SHARE, _LEAST_FAR_PX, _JUDGED_IN_TURN = 0.45, 96, 3
# Both scores of a face together, less this, are its evidence for a turn; by the second number a turn must
# beat upright.
_NO_EVIDENCE, _TURN_MARGIN = 1.4, 0.06
# Where a face may be so large a share of the side, and larger than the detector finds, it is looked for from
# afar too.
_FILLS = 0.6
# Proposals of faces that are large in the input need this share of the threshold; so many are followed.
_LARGE_SHARE, _MOST_PROPOSALS = 0.5, 64


@dataclass(frozen=True, slots=True, eq=False)
class ViewTile:
    """A tile of a view. own: (x1, y1, x2, y2) in its pixels; a face whose centre is there is this tile's."""

    view: View
    own: tuple[float, float, float, float]


def tiles_of(view: View, most_side_px: int) -> Iterator[ViewTile]:
    """Cut a view into tiles, row by row, that own each of its points once; a view that fits is one tile."""
    height, width = view.pixels.shape[:2]
    infinite = float("inf")
    if max(height, width) <= most_side_px:
        yield ViewTile(view, (-infinite, -infinite, infinite, infinite))
        return
    tile = min(TILE_PX, most_side_px)
    for top, bottom, own_top, own_bottom in _spans(height, tile):
        for left, right, own_left, own_right in _spans(width, tile):
            frame = view.frame.copy()
            frame[:, 2] += view.frame[:, :2] @ np.array([left, top], np.float64)
            pixels = view.pixels[top:bottom, left:right]
            own = (own_left - left, own_top - top, own_right - left, own_bottom - top)
            yield ViewTile(View(pixels, frame), own)


def is_own(tile: ViewTile, boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the boxes (k, 4), in pixels of the tile, whose centres are in the part that is the tile's own."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    low, high = np.array(tile.own[:2]), np.array(tile.own[2:])
    own: NDArray[np.bool_] = np.all((centres >= low) & (centres < high), axis=1)
    return own


def _spans(length: int, tile: int) -> Iterator[tuple[int, int, float, float]]:
    """Spans of tiles along an axis, as even as can be: starts and ends, and of what each owns."""
    infinite = float("inf")
    if length <= tile:
        yield 0, length, -infinite, infinite
        return
    margin = min(MARGIN_PX, tile // 4)
    step = tile - 2 * margin
    count = -(-length // step)
    cuts = [round(number * length / count) for number in range(count + 1)]
    for number in range(count):
        first, last = number == 0, number == count - 1
        start = 0 if first else cuts[number] - margin
        stop = length if last else cuts[number + 1] + margin
        yield start, stop, -infinite if first else cuts[number], infinite if last else cuts[number + 1]


class SingleLook:
    """Look at whole photos once and take what the detector says: first recipes, and unmeasured models."""

    def __init__(self, detector: Detector, settings: DetectConfig) -> None:
        self._detector = detector
        self._side = settings.max_side_px or SINGLE_LOOK_SIDE_PX

    def side_of(self, width: int, height: int) -> int:
        """The longer side at which a photo is looked at whole, pixels."""
        del width, height
        return self._side

    def first(self, photos: Sequence[Photo]) -> list[Case]:
        """Find the faces of whole photos; every one is sure."""
        found = self._detector.detect([photo.pixels for photo in photos])
        cases = []
        for photo, faces in zip(photos, found, strict=True):
            widths = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0.0)
            moved = faces.moved(partial(to_original_pixels, photo))
            cases.append(Case(photo, faces=candidates(moved, widths, is_sure=True)))
        return cases

    def is_clear(self, face: FaceCandidate) -> bool:
        """Whether a face is beyond doubt, as `Finder.is_clear`."""
        del face
        return True

    def needed_shrink(self, case: Case) -> int:
        """The decode shrink that is needed, as `Finder.needed_shrink`."""
        return case.photo.shrink

    def second(self, cases: Sequence[Case]) -> None:
        """Do nothing: no face is looked at again."""


class Finder:
    """Look for the faces of photos with a detector and its judge. Not for several threads at once."""

    def __init__(self, detector: Detector, judge: Detector, settings: DetectConfig) -> None:
        if detector.card.looks is None:
            raise ValueError(f"the card of {detector.card.name} has no looks")
        self._detector, self._settings = detector, settings
        self._looks: LooksSpec = detector.card.looks
        self._turns, self._refine = settings.turns == "auto", settings.refine == "auto"
        self._judging = Judging(judge, self._looks)
        self._close_look = CloseLook(detector, self._judging, settings, self._looks)

    def side_of(self, width: int, height: int) -> int:
        """The longer side at which a photo is looked at whole, pixels."""
        return first_side(self._looks, self._settings, max(width, height))

    def first(self, photos: Sequence[Photo]) -> list[Case]:
        """Look at whole photos: which way each is turned, its faces, and which of them are sure."""
        cases = [Case(photo) for photo in photos]
        for case in cases:
            longer = max(case.photo.width, case.photo.height)
            case.least_px = self._looks.smallest_face_px * longer / self._side(case)
        self._whole(cases)
        if self._turns:
            self._turn(cases)
        return cases

    def second(self, cases: Sequence[Case]) -> None:
        """Look at each doubtful face again; afterwards each is sure, or gone and counted as refused.

        A photo that then has faces which lie otherwise than it does is looked at in the other turns too.
        """
        self._settle(cases)
        mixed = [case for case in cases if any(case.lies_otherwise(face) for face in case.faces)]
        for quarter in QUARTERS[1:] if self._turns else ():
            views = [self._view(case, case.turn_deg + quarter) for case in mixed]
            for case, faces in zip(mixed, self._over(views), strict=True):
                fresh = self._apart(faces, case.faces)
                self._find_sure([(case, face) for face in fresh])
                case.faces = case.faces + fresh
            self._settle(mixed)
        for case in cases:
            # One that was refused in several turns counts once, and not at all if another turn took it.
            case.refused = self._distinct(self._apart(case.doubted, case.faces))

    def needed_shrink(self, case: Case) -> int:
        """The largest shrink (1, 2, 4, 8) of a decode that the second looks at a photo's faces allow."""
        return self._close_look.needed_shrink(case.doubtful)

    def is_clear(self, face: FaceCandidate) -> bool:
        """Whether a face's scores are such as faces on negatives and drawings do not get."""
        return self._judging.is_clear(face)

    def _settle(self, cases: Sequence[Case]) -> None:
        self._close_look.settle([(case, face) for case in cases for face in case.doubtful])
        for case in cases:
            case.faces = self._distinct([face for face in case.faces if face.is_sure])

    def _find_sure(self, faces: Sequence[tuple[Case, FaceCandidate]]) -> None:
        """Mark the faces whose first look will do."""
        steady = [(case, face) for case, face in faces if self._is_steady(case, face)]
        self._judging.ask_where_needed(steady)
        for _, face in steady:
            face.is_sure = not self._turns or self._judging.is_sure(face)

    def _is_steady(self, case: Case, face: FaceCandidate) -> bool:
        """Whether a first look may do: above the threshold, large enough, and upright in some turn."""
        if face.score < self._detector.score_threshold or not face.is_plausible:
            return False
        if self._refine and face.seen_px < self._looks.steady_face_px:
            return False
        off = face.roll_from(case.upright_deg)
        return not self._turns or (
            off is not None and abs(wrapped(off - 90 * round(off / 90))) <= self._looks.steady_roll_deg
        )

    # Whole photos

    def _side(self, case: Case) -> int:
        return self.side_of(case.photo.width, case.photo.height)

    def _whole(self, cases: Sequence[Case]) -> None:
        """Look at photos in their turn, and, where faces may fill them, once more from afar."""
        views = [self._view(case, case.turn_deg) for case in cases]
        for case, faces in zip(cases, self._over(views), strict=True):
            case.faces = faces
        most = self._detector.most_side_px
        far = [case for case in cases if self._refine and hides(self._looks, self._side(case), most)]
        coarse = self._over([turned(self._far_view(case), case.turn_deg) for case in far], from_afar=True)
        for case, faces in zip(far, coarse, strict=True):
            case.coarse = faces if case.turn_deg == 0 else None
            case.faces = self._distinct(case.faces + faces)
        self._find_sure([(case, face) for case in cases for face in case.faces])

    def _view(self, case: Case, turn_deg: int) -> View:
        return whole(case.photo, self._side(case), turn_deg)

    def _far_view(self, case: Case) -> View:
        side = min(self._side(case), self._looks.largest_face_px / _FILLS / _FAR_SHARE)
        return whole(case.photo, max(int(side * _FAR_SHARE / 32) * 32, _LEAST_FAR_PX))

    def _over(self, views: Sequence[View], *, from_afar: bool = False) -> list[list[FaceCandidate]]:
        """Find faces and proposals in views of whole photos, best first."""
        cuts = [
            (number, tile)
            for number, view in enumerate(views)
            for tile in tiles_of(view, self._detector.most_side_px)
        ]
        threshold = self._looks.proposal_score if self._refine else self._detector.score_threshold
        found = self._detector.look([tile.view.pixels for _, tile in cuts], threshold, are_parts=from_afar)
        results: list[list[FaceCandidate]] = [[] for _ in views]
        for (number, tile), faces in zip(cuts, found, strict=True):
            results[number] += out_of(tile.view, faces.take(is_own(tile, faces.boxes)))
        return [self._distinct(self._worth(faces)) for faces in results]

    def _worth(self, faces: list[FaceCandidate]) -> list[FaceCandidate]:
        """Keep faces, and proposals that may become one: not smaller than asked for, nor part of a face."""
        threshold = self._detector.score_threshold
        good = [face for face in faces if face.score >= threshold]
        boxes = np.array([face.box for face in good]).reshape(-1, 4)
        weak = [
            face
            for face in faces
            if face.score < threshold
            and face.width >= self._settings.min_face_px
            and (face.seen_px < self._looks.steady_face_px or face.score >= threshold * _LARGE_SHARE)
            and not np.any(np.all((face.centre >= boxes[:, :2]) & (face.centre <= boxes[:, 2:]), axis=1))
        ]
        weak.sort(key=lambda face: -face.score)
        return good + weak[:_MOST_PROPOSALS]

    def _distinct(self, faces: Sequence[FaceCandidate]) -> list[FaceCandidate]:
        return distinct(faces, self._detector.nms_iou)

    def _apart(self, faces: Sequence[FaceCandidate], others: Sequence[FaceCandidate]) -> list[FaceCandidate]:
        return apart(faces, others, self._detector.nms_iou)

    # Which way a photo is turned

    def _turn(self, cases: Sequence[Case]) -> None:
        """Decide the turn of photos: by their sure faces, or else by looking at them in all four."""
        again = []
        unknown = []
        for case in cases:
            # Of a face that is small, or rolled, the turn may be sure and the landmarks not.
            telling = [face for face in case.faces if face.is_sure or self._judging.is_sure(face)]
            if not telling:
                unknown.append(case)
                continue
            case.turn_deg = _voted(telling)
            if case.turn_deg:
                again.append(case)
            for face in telling:
                face.is_sure = face.is_sure and not case.lies_otherwise(face)
        found_turned = self._try_turns(unknown)
        before = [case.faces for case in again + found_turned]
        self._whole(again + found_turned)
        for case, faces in zip(again, before, strict=False):
            # A face that told the turn is kept, whether or not the turned photo shows it.
            told = [face for face in faces if face.score >= self._detector.score_threshold]
            case.faces = case.faces + self._apart(told, case.faces)
        for case, faces in zip(found_turned, before[len(again) :], strict=True):
            # A turn that only the look from afar has shown, and a look turned so does not, was none.
            good = (face for face in case.faces if face.score >= self._detector.score_threshold)
            if all(map(case.lies_otherwise, good)):
                case.turn_deg, case.faces = 0, faces

    def _try_turns(self, cases: Sequence[Case]) -> list[Case]:
        """Find the photos that lie otherwise, and turn them; a close-up seen upright is taken in."""
        views = [self._far_view(case) for case in cases]
        looks = {turn_deg: self._from_afar(cases, views, turn_deg) for turn_deg in QUARTERS}
        for found in [*looks.values(), [case.faces for case in cases]]:
            shown = [(case, face) for case, faces in zip(cases, found, strict=True) for face in _best(faces)]
            self._judging.ask([(case, face) for case, face in shown if face.judged is None])
        lying = []
        for number, case in enumerate(cases):
            evidence = {turn_deg: _evidence(found[number], turn_deg) for turn_deg, found in looks.items()}
            evidence[0] = max(evidence[0], _evidence(case.faces, 0))
            best = max(QUARTERS, key=lambda turn_deg: evidence[turn_deg])
            if best and evidence[best] > evidence[0] + _TURN_MARGIN:
                case.turn_deg = best
                lying.append(case)
            elif self._refine:
                closer = [f for f in looks[0][number] if f.score >= self._detector.score_threshold]
                case.faces = self._distinct(case.faces + closer)
                self._find_sure([(case, face) for face in closer if face in case.faces])
        return lying

    def _from_afar(
        self, cases: Sequence[Case], views: Sequence[View], turn_deg: int
    ) -> list[list[FaceCandidate]]:
        """Look at photos from afar in a turn; those looked at upright already are not looked at again."""
        todo = [v for case, v in zip(cases, views, strict=True) if turn_deg or case.coarse is None]
        fresh = iter(self._over([turned(view, turn_deg) for view in todo], from_afar=True))
        return [case.coarse if turn_deg == 0 and case.coarse is not None else next(fresh) for case in cases]


def first_side(looks: LooksSpec, settings: DetectConfig, longer: int) -> int:
    """The side at which a photo is looked at whole, its longer side being `longer`; pixels."""
    if settings.max_side_px is not None:
        return min(longer, settings.max_side_px)
    wanted = longer * looks.smallest_face_px / settings.min_face_px
    return min(longer, max(SINGLE_LOOK_SIDE_PX, round(wanted)))


def hides(looks: LooksSpec, side: int, most_side_px: int) -> bool:
    """Whether a face may be too large to be found at a side, or in the tiles that it needs."""
    return side * _FILLS > looks.largest_face_px or side > most_side_px


def _best(faces: list[FaceCandidate]) -> list[FaceCandidate]:
    return sorted(faces, key=lambda face: -face.score)[:_JUDGED_IN_TURN]


def _evidence(faces: list[FaceCandidate], turn_deg: int) -> float:
    """The evidence for a turn of a photo: that of the best faces in it that stand upright then."""
    upright = (face for face in _best(faces) if abs(face.roll_from(-turn_deg) or 0.0) <= 45)
    return sum(max(0.0, face.evidence - _NO_EVIDENCE) for face in upright)


def _voted(sure: list[FaceCandidate]) -> int:
    """The turn that most of the sure faces ask for; upright in doubt."""
    votes = dict.fromkeys(QUARTERS, 0.0)
    for face in sure:
        votes[round(-(face.roll_deg or 0.0) / 90) % 4 * 90] += face.score
    return max(QUARTERS, key=lambda turn_deg: votes[turn_deg])
