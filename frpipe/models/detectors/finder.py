"""Faces of photos as they come: turned, small, close up. Each found right, or refused.

A detector fits upright landmarks to a face that lies upside down, and is sure of it. So a photo's turn and
each doubtful face are decided by evidence: the detector's score in several looks, and the score that a judge
(a small detector of which a turned face gets a low score) gives to the face as it would be aligned. The sum
of both is highest in the right look for nearly every face (docs/adr/0018). Sure faces, nearly all in upright
photos, are looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from frpipe.core.config import SINGLE_LOOK_SIDE_PX, DetectConfig
from frpipe.core.reasons import Reject
from frpipe.models.card import LooksSpec
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.faces import Faces
from frpipe.models.detectors.nms import iou, suppress
from frpipe.models.detectors.plausible import is_plausible
from frpipe.models.detectors.tiles import is_own, tiles_of
from frpipe.vision.align import align_photo, to_original_pixels
from frpipe.vision.decode import SHRINKS, Photo
from frpipe.vision.geometry import template
from frpipe.vision.view import View, roll_of, square, whole, wrapped

Array = NDArray[np.float64]

QUARTERS = (0, 90, 180, 270)
# A face is looked at again in a square of this many of its widths, scaled to this many pixels.
LOOK_WIDTHS, LOOK_SIDE_PX = 2.2, 160
# The judge sees the aligned face at this size: where it tells turned ones from upright ones best.
_JUDGED_SIDE_PX, _LEAST_JUDGED = 64, 0.05
# So far from the template, in eye distances, may it put the landmarks of a face that is aligned right.
_JUDGED_ERROR = 0.2
# Whole photos are turned at this share of the side of the first look, which of a photo without a face costs
# less than that first look did, and this many of their best faces are judged in each turn.
_TURNED_SHARE, _LEAST_TURNED_PX, _JUDGED_IN_TURN = 0.45, 96, 3
# Both scores of a face together, less this, are its evidence for a turn.
_NO_EVIDENCE = 1.4
# By so much a turn must beat upright, and the best look at a face all others, or nothing is decided.
_TURN_MARGIN, _LOOK_MARGIN = 0.03, 0.02
# A face that stands otherwise than its photo needs this much evidence.
_ODD_EVIDENCE, _WEAK_EVIDENCE = 1.7, 1.1
# A roll within this is upright enough for the detector; landmarks of two looks that far apart, in eye
# distances, are of two different alignments; up to the second, the first look's stand.
_UPRIGHT_DEG, _OTHER_ALIGNMENT, _SAME_LANDMARKS = 20.0, 0.5, 0.25
# In a look at one face the one that is meant lies this near to the middle.
_MIDDLE_SHARE = 0.2
_MOST_PROPOSALS = 64


@dataclass(slots=True, eq=False)
class Candidate:
    """A face under way.

    box (4,) and points (5, 2): pixels of the upright original. seen_px: its width in the look that found it.
    judged: the judge's score of it as it would be aligned, None before it was asked; judged_error: how far
    from the template it puts the landmarks then, in eye distances.
    """

    box: Array
    points: Array
    score: float
    seen_px: float
    judged: float | None = None
    judged_error: float = 0.0
    is_sure: bool = False
    is_refined: bool = False
    landmark_error: float | None = None

    @property
    def width(self) -> float:
        """The longer side of its box, pixels of the original."""
        return float(max(self.box[2:] - self.box[:2]))

    @property
    def centre(self) -> Array:
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def evidence(self) -> float:
        """Both scores together, 0..2."""
        return self.score + (self.judged or 0.0)

    @property
    def roll_deg(self) -> float | None:
        """By its landmarks; None where they are no face's."""
        try:
            return roll_of(self.points)
        except Reject:
            return None


@dataclass(slots=True, eq=False)
class Case:
    """A photo under way. refused: faces found and not believed. least_px: the smallest looked for."""

    photo: Photo
    turn_deg: int = 0
    faces: list[Candidate] = field(default_factory=list)
    coarse: list[Candidate] | None = None
    refused: int = 0
    least_px: float = 0.0

    def found(self) -> Faces:
        """Its faces, in their order."""
        if not self.faces:
            return Faces.empty()
        return Faces(
            np.array([face.box for face in self.faces], np.float32),
            np.array([face.score for face in self.faces], np.float32),
            np.array([face.points for face in self.faces], np.float32),
        )

    @property
    def upright_deg(self) -> float:
        """The roll, in the EXIF-upright photo, of a face that stands upright in the turned one."""
        return wrapped(-self.turn_deg)

    @property
    def doubtful(self) -> list[Candidate]:
        return [face for face in self.faces if not face.is_sure]


class SingleLook:
    """Looks at whole photos once and takes what the detector says: first recipes, and unmeasured models."""

    def __init__(self, detector: Detector, settings: DetectConfig) -> None:
        self._detector = detector
        self._side = settings.max_side_px or SINGLE_LOOK_SIDE_PX

    def side_of(self, width: int, height: int) -> int:
        """The longer side at which a photo is looked at whole, pixels."""
        del width, height
        return self._side

    def first(self, photos: Sequence[Photo]) -> list[Case]:
        """Every face is sure."""
        found = self._detector.detect([photo.pixels for photo in photos])
        cases = []
        for photo, faces in zip(photos, found, strict=True):
            widths = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0.0)
            moved = faces.moved(partial(to_original_pixels, photo))
            cases.append(Case(photo, faces=_candidates(moved, widths, is_sure=True)))
        return cases

    def is_clear(self, face: Candidate) -> bool:
        """As `Finder.is_clear`."""
        del face
        return True

    def needed_shrink(self, case: Case) -> int:
        """As `Finder.needed_shrink`."""
        return case.photo.shrink

    def second(self, cases: Sequence[Case]) -> None:
        """Nothing is left to look at."""


class Finder:
    """Looks for the faces of photos with a detector and its judge. Not for several threads at once."""

    def __init__(self, detector: Detector, judge: Detector, settings: DetectConfig) -> None:
        if detector.card.looks is None:
            raise ValueError(f"the card of {detector.card.name} has no looks")
        self._detector, self._judge, self._settings = detector, judge, settings
        self._looks: LooksSpec = detector.card.looks
        self._turns, self._refine = settings.turns == "auto", settings.refine == "auto"

    def side_of(self, width: int, height: int) -> int:
        """The longer side at which a photo is looked at whole, pixels."""
        longer = max(width, height)
        if self._settings.max_side_px is not None:
            return min(longer, self._settings.max_side_px)
        wanted = longer * self._looks.smallest_face_px / self._settings.min_face_px
        return min(longer, max(SINGLE_LOOK_SIDE_PX, round(wanted)))

    def first(self, photos: Sequence[Photo]) -> list[Case]:
        """Look at whole photos: which way each is turned, its faces, and which of them are sure."""
        cases = [Case(photo) for photo in photos]
        for case in cases:
            side = self.side_of(case.photo.width, case.photo.height)
            case.least_px = self._looks.smallest_face_px * max(case.photo.width, case.photo.height) / side
        self._whole(cases)
        self._judge_faces(
            [(case, face) for case in cases for face in case.faces if self._is_steady(case, face)]
        )
        if self._turns:
            self._turn(cases)
        return cases

    def is_clear(self, face: Candidate) -> bool:
        """Whether its scores are such as faces on negatives and drawings do not get."""
        if self._looks.clear_score is not None:
            return face.score >= self._looks.clear_score
        return (face.judged or 0.0) >= self._looks.judged_clear_score

    def needed_shrink(self, case: Case) -> int:
        """The largest shrink (1, 2, 4, 8) of a decode that the second looks at a photo's faces allow."""
        sides = [face.width * LOOK_WIDTHS / LOOK_SIDE_PX for face in case.doubtful]
        least = min(sides, default=float(SHRINKS[-1]))
        return max((shrink for shrink in SHRINKS if shrink <= least), default=1)

    def second(self, cases: Sequence[Case]) -> None:
        """Look at each doubtful face again; afterwards each is sure, or gone and counted as refused.

        A photo that then has faces which lie otherwise than it does is looked at in the other turns too.
        """
        self._settle_all(cases)
        mixed = [
            case for case in cases if self._turns and any(self._is_odd(case, face) for face in case.faces)
        ]
        for quarter in QUARTERS[1:]:
            sides = [self.side_of(case.photo.width, case.photo.height) for case in mixed]
            turns = [(case.turn_deg + quarter) % 360 for case in mixed]
            found = self._over(list(zip(mixed, sides, turns, strict=True)))
            for case, faces in zip(mixed, found, strict=True):
                known = np.array([face.box for face in case.faces], np.float32)
                boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 1, 4)
                is_new = iou(boxes, known).max(axis=1, initial=0.0) <= self._detector.nms_iou
                fresh = [face for face, new in zip(faces, is_new, strict=True) if new]
                self._judge_faces([(case, face) for face in fresh if self._is_steady(case, face)])
                case.faces = case.faces + fresh
            self._settle_all(mixed)

    def _is_odd(self, case: Case, face: Candidate) -> bool:
        return face.roll_deg is not None and not self._is_near_upright(case, face)

    def _settle_all(self, cases: Sequence[Case]) -> None:
        todo = [(case, face) for case in cases for face in case.doubtful]
        if not self._refine:
            # Small faces are taken as the first look had them; what is doubtful for its turn is looked at.
            for _, face in todo:
                face.is_sure = face.score >= self._detector.score_threshold and not self._turns
            todo = [(case, face) for case, face in todo if not face.is_sure]
        seen = self._look([(case, face, self._first_roll(case, face)) for case, face in todo])
        contested: list[tuple[Case, Candidate, Candidate | None]] = []
        for (case, face), sight in zip(todo, seen, strict=True):
            if sight is not None and self._is_sure(sight):
                self._settle(face, sight)
            elif face.score >= self._detector.score_threshold:
                contested.append((case, face, sight))
            elif sight is not None and self._is_confirmed(case, sight):
                self._settle(face, sight)
        self._contest(contested)
        for case in cases:
            case.faces = self._distinct([face for face in case.faces if face.is_sure])

    # Whole photos

    def _whole(self, cases: Sequence[Case]) -> None:
        """Look at photos in their turn, and, where faces may fill them, once more from afar."""
        sides = [self.side_of(case.photo.width, case.photo.height) for case in cases]
        found = self._over([(case, side, case.turn_deg) for case, side in zip(cases, sides, strict=True)])
        for case, faces in zip(cases, found, strict=True):
            case.faces = faces
        far = [case for case, side in zip(cases, sides, strict=True) if self._refine and self._hides(side)]
        coarse = self._over([(case, self._turned_side(case), case.turn_deg) for case in far], from_afar=True)
        for case, faces in zip(far, coarse, strict=True):
            case.coarse = faces if case.turn_deg == 0 else None
            case.faces = self._distinct(case.faces + faces)

    def _hides(self, side: int) -> bool:
        """Whether a face may be too large to be found at this side, or in the tiles that it needs."""
        return 0.6 * side > self._looks.largest_face_px or side > self._detector.most_side_px

    def _turned_side(self, case: Case) -> int:
        side = min(self.side_of(case.photo.width, case.photo.height), SINGLE_LOOK_SIDE_PX)
        return max(round(side * _TURNED_SHARE / 32) * 32, _LEAST_TURNED_PX)

    def _over(
        self, orders: Sequence[tuple[Case, int, int]], *, from_afar: bool = False
    ) -> list[list[Candidate]]:
        """Faces and proposals of whole photos, each at a side and in a turn, best first."""
        views, owners, cuts = [], [], []
        for number, (case, side, turn_deg) in enumerate(orders):
            for cut in tiles_of(whole(case.photo, side, turn_deg), self._detector.most_side_px):
                views.append(cut.view)
                owners.append(number)
                cuts.append(cut)
        asks = self._refine or self._turns
        threshold = self._looks.proposal_score if asks else self._detector.score_threshold
        found = self._detector.look([view.pixels for view in views], threshold, are_parts=from_afar)
        results: list[list[Candidate]] = [[] for _ in orders]
        for number, cut, faces in zip(owners, cuts, found, strict=True):
            results[number] += _out_of(cut.view, faces.take(is_own(cut, faces.boxes)))
        return [self._distinct(self._worth(faces)) for faces in results]

    def _worth(self, faces: list[Candidate]) -> list[Candidate]:
        """Without proposals that are smaller than what is asked for, or more than a photo can have."""
        good = [face for face in faces if face.score >= self._detector.score_threshold]
        weak = [
            face
            for face in faces
            if face.score < self._detector.score_threshold
            and face.width >= self._settings.min_face_px
            and face.seen_px < self._looks.steady_face_px
        ]
        weak.sort(key=lambda face: -face.score)
        return good + weak[:_MOST_PROPOSALS]

    # Which way a photo is turned

    def _turn(self, cases: Sequence[Case]) -> None:
        """Decide the turn of photos: by their sure faces, or else by looking at them in all four."""
        again = []
        for case in cases:
            sure = [face for face in case.faces if face.is_sure]
            if sure:
                case.turn_deg = _voted(sure)
                if case.turn_deg:
                    again.append(case)
                for face in sure:
                    face.is_sure = self._is_near_upright(case, face)
        again += self._try_turns([case for case in cases if not any(face.is_sure for face in case.faces)])
        for case in again:
            case.faces = []
        self._whole(again)
        self._judge_faces(
            [(case, face) for case in again for face in case.faces if self._is_steady(case, face)]
        )

    def _try_turns(self, cases: Sequence[Case]) -> list[Case]:
        """Those of the photos that turn out to lie otherwise; a close-up that upright shows is taken in."""
        looks: dict[int, list[list[Candidate]]] = {}
        for turn_deg in QUARTERS:
            known = [case.coarse if turn_deg == 0 else None for case in cases]
            fresh = iter(
                self._over(
                    [
                        (case, self._turned_side(case), turn_deg)
                        for case, faces in zip(cases, known, strict=True)
                        if faces is None
                    ],
                    from_afar=True,
                )
            )
            looks[turn_deg] = [next(fresh) if faces is None else faces for faces in known]
        for found in looks.values():
            shown = [(case, face) for case, faces in zip(cases, found, strict=True) for face in _best(faces)]
            self._judge_faces(shown, to_be_sure=False, always=True)
        turned = []
        for number, case in enumerate(cases):
            evidence = {turn_deg: _evidence(found[number]) for turn_deg, found in looks.items()}
            best = max(QUARTERS, key=lambda turn_deg: evidence[turn_deg])
            if best and evidence[best] > evidence[0] + _TURN_MARGIN:
                case.turn_deg = best
                turned.append(case)
            elif self._refine:
                closer = [f for f in looks[0][number] if f.score >= self._detector.score_threshold]
                case.faces = self._distinct(case.faces + closer)
                self._judge_faces([(case, f) for f in closer if f in case.faces and self._is_steady(case, f)])
        return turned

    # One face

    def _is_steady(self, case: Case, face: Candidate) -> bool:
        """Whether its first look may do: large enough, upright enough, and above the threshold."""
        if face.score < self._detector.score_threshold or not is_plausible(face.box, face.points):
            return False
        if self._refine and face.seen_px < self._looks.steady_face_px:
            return False
        return self._stands(case, face) or not self._turns

    def _stands(self, case: Case, face: Candidate) -> bool:
        """Whether its roll is near a multiple of 90 degrees, so that its photo may just be turned."""
        roll_deg = face.roll_deg
        if roll_deg is None:
            return False
        off = wrapped(roll_deg - case.upright_deg)
        return abs(wrapped(off - 90 * round(off / 90))) <= _UPRIGHT_DEG + 10

    def _is_sure(self, face: Candidate) -> bool:
        if not is_plausible(face.box, face.points):
            return False
        if self._looks.sure_score is not None and face.score >= self._looks.sure_score:
            return True
        return (
            (face.judged or 0.0) >= self._looks.judged_score
            and face.evidence >= self._looks.sure_evidence
            and face.judged_error <= _JUDGED_ERROR
        )

    def _is_confirmed(self, case: Case, sight: Candidate) -> bool:
        """Whether a second look makes a proposal a face."""
        return (
            sight.score >= self._detector.score_threshold
            and self._is_near_upright(case, sight)
            and (sight.evidence >= _ODD_EVIDENCE)
        )

    def _is_near_upright(self, case: Case, face: Candidate) -> bool:
        roll_deg = face.roll_deg
        return roll_deg is not None and abs(wrapped(roll_deg - case.upright_deg)) <= 45

    def _first_roll(self, case: Case, face: Candidate) -> float:
        """The roll at which to look at a face again: as its landmarks say, if they can be believed."""
        roll_deg = face.roll_deg if is_plausible(face.box, face.points) else None
        if roll_deg is None or abs(wrapped(roll_deg - case.upright_deg)) <= _UPRIGHT_DEG:
            return case.upright_deg
        return roll_deg

    def _settle(self, face: Candidate, sight: Candidate) -> None:
        """Take a face as it was seen last, unless its first look was as good."""
        error = landmark_error(face.points, sight.points)
        face.landmark_error = error
        steady = face.seen_px >= self._looks.steady_face_px and face.score >= self._detector.score_threshold
        if not (steady and error <= _SAME_LANDMARKS):
            face.box, face.points, face.is_refined = sight.box, sight.points, True
        face.score, face.judged, face.is_sure = sight.score, sight.judged, True

    def _contest(self, contested: Sequence[tuple[Case, Candidate, Candidate | None]]) -> None:
        """Look at faces in the other three turns too, and take the best look of each, if it stands out."""
        orders = [
            (case, face, wrapped(self._first_roll(case, face) + quarter))
            for case, face, _ in contested
            for quarter in QUARTERS[1:]
        ]
        seen = self._look(orders)
        for number, (case, face, sight) in enumerate(contested):
            sights = [each for each in (sight, *seen[3 * number : 3 * number + 3]) if each is not None]
            winner = self._winner(case, face, sights)
            if winner is None:
                case.refused += 1
            else:
                self._settle(face, winner)

    def _winner(self, case: Case, face: Candidate, sights: list[Candidate]) -> Candidate | None:
        sights = [sight for sight in sights if is_plausible(sight.box, sight.points)]
        if not sights:
            return None
        best = max(sights, key=lambda sight: sight.evidence)
        others = [s for s in sights if landmark_error(s.points, best.points) > _OTHER_ALIGNMENT]
        second = max((s.evidence for s in others), default=0.0)
        if not self._turns:
            return best if self._is_near_upright(case, best) else None
        if best.evidence < second + _LOOK_MARGIN:
            return None
        if self._is_near_upright(case, best):
            return best if best.evidence >= _WEAK_EVIDENCE else None
        return best if self._is_sure(best) or best.evidence >= _ODD_EVIDENCE else None

    def _look(self, orders: Sequence[tuple[Case, Candidate, float]]) -> list[Candidate | None]:
        """Each face in a view of its own, turned by a roll; where that shows it rolled still, once more."""
        seen = self._look_once(orders)
        rolled = [
            number
            for number, ((_, _, roll_deg), sight) in enumerate(zip(orders, seen, strict=True))
            if sight is not None and _is_rolled(sight, roll_deg)
        ]
        again = self._look_once(
            [
                (
                    orders[number][0],
                    seen[number] or orders[number][1],
                    (seen[number] or orders[number][1]).roll_deg or 0.0,
                )
                for number in rolled
            ]
        )
        for number, sight in zip(rolled, again, strict=True):
            first = seen[number]
            if sight is not None and (first is None or sight.evidence > first.evidence):
                seen[number] = sight
        return seen

    def _look_once(self, orders: Sequence[tuple[Case, Candidate, float]]) -> list[Candidate | None]:
        views = [
            square(case.photo, face.centre, face.width * LOOK_WIDTHS, roll_deg, LOOK_SIDE_PX)
            for case, face, roll_deg in orders
        ]
        found = self._detector.look([view.pixels for view in views], self._looks.proposal_score)
        seen = [_in_the_middle(faces, view) for faces, view in zip(found, views, strict=True)]
        self._judge_faces(
            [(case, sight) for (case, _, _), sight in zip(orders, seen, strict=True) if sight is not None],
            to_be_sure=False,
            always=True,
        )
        return seen

    def _judge_faces(
        self, faces: Sequence[tuple[Case, Candidate]], to_be_sure: bool = True, always: bool = False
    ) -> None:
        """Have aligned faces judged where their own score does not say enough; mark those that are sure."""
        asked = []
        for case, face in faces:
            if self._looks.sure_score is not None and face.score >= self._looks.sure_score and not always:
                continue
            asked.append((case, face))
        for (_, face), (judged, error) in zip(asked, self._judged(asked), strict=True):
            face.judged, face.judged_error = judged, error
        if to_be_sure:
            for _, face in faces:
                face.is_sure = not self._turns or self._is_sure(face)

    def _judged(self, faces: Sequence[tuple[Case, Candidate]]) -> Iterator[tuple[float, float]]:
        """Of each face, as it would be aligned, the judge's score, 0 where there is none, and its error."""
        crops = []
        for case, face in faces:
            try:
                crop = align_photo(case.photo, face.points)
            except Reject:
                crop = np.zeros((112, 112, 3), np.uint8)
            crops.append(cv2.resize(crop, (_JUDGED_SIDE_PX,) * 2, interpolation=cv2.INTER_AREA))
        for found in self._judge.look(crops, _LEAST_JUDGED):
            if len(found):
                yield float(found.scores[0]), landmark_error(found.points[0], template(_JUDGED_SIDE_PX))
            else:
                yield 0.0, float("inf")

    def _distinct(self, faces: list[Candidate]) -> list[Candidate]:
        """One of each face, the best first; where a look from afar found it too, the sharper look's."""
        if not faces:
            return []
        boxes = np.array([face.box for face in faces], np.float32)
        scores = np.array([face.score for face in faces], np.float32)
        kept = suppress(
            boxes, scores, np.zeros(len(faces), np.intp), self._detector.nms_iou, self._settings.max_faces
        )
        return [faces[index] for index in kept]


def landmark_error(first: Array, second: Array) -> float:
    """The mean distance of landmarks (5, 2), in eye distances of the second."""
    eyes = float(np.hypot(*(second[1] - second[0])))
    height = float(np.hypot(*(second[3:].mean(axis=0) - second[:2].mean(axis=0))))
    # Of a face in profile the eyes come together; upright it is 1.17 times as high as its eyes are apart.
    unit = max(eyes, height / 1.17, 1e-6)
    return float(np.hypot(*(first - second).T).mean() / unit)


def _candidates(faces: Faces, widths: NDArray[np.float32], *, is_sure: bool = False) -> list[Candidate]:
    """Faces in pixels of the original, with their widths in the view that they were found in."""
    return [
        Candidate(
            box.astype(np.float64), points.astype(np.float64), float(score), float(width), is_sure=is_sure
        )
        for box, points, score, width in zip(faces.boxes, faces.points, faces.scores, widths, strict=True)
    ]


def _out_of(view: View, faces: Faces) -> list[Candidate]:
    """Faces of a view as faces of its photo."""
    widths = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0.0)
    return _candidates(faces.through(view.frame), widths)


def _in_the_middle(faces: Faces, view: View) -> Candidate | None:
    """The best face near the centre of a view."""
    side = view.pixels.shape[0]
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    near = np.abs(centres - (side - 1) / 2).max(axis=1, initial=0.0) <= side * _MIDDLE_SHARE
    return next(iter(_out_of(view, faces.take(near))), None)


def _is_rolled(sight: Candidate, roll_deg: float) -> bool:
    found = sight.roll_deg
    return (
        found is not None
        and is_plausible(sight.box, sight.points)
        and (abs(wrapped(found - roll_deg)) > _UPRIGHT_DEG)
    )


def _best(faces: list[Candidate]) -> list[Candidate]:
    return sorted(faces, key=lambda face: -face.score)[:_JUDGED_IN_TURN]


def _evidence(faces: list[Candidate]) -> float:
    """Of a photo's best faces in one turn, for that turn."""
    return sum(max(0.0, face.evidence - _NO_EVIDENCE) for face in _best(faces))


def _voted(sure: list[Candidate]) -> int:
    """The turn that most of the sure faces ask for; upright in doubt."""
    votes = dict.fromkeys(QUARTERS, 0.0)
    for face in sure:
        votes[round(-(face.roll_deg or 0.0) / 90) % 4 * 90] += face.score
    return max(QUARTERS, key=lambda turn_deg: votes[turn_deg])
