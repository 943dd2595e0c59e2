"""Look at single faces on the photo's own pixels, at any roll and from several sides, and decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from frpipe.core.config import DetectConfig
from frpipe.models.card import LooksSpec
from frpipe.models.detectors.base import Detector
from frpipe.models.detectors.candidates import Case, FaceCandidate, in_the_middle, landmark_error
from frpipe.models.detectors.judging import Judging
from frpipe.vision.decode import SHRINKS
from frpipe.vision.geometry import apply, invert, reduction, similarity, template
from frpipe.vision.view import View, square, turned, wrapped

# A face is looked at in a square of this many of its widths, scaled to this many pixels.
LOOK_WIDTHS, LOOK_SIDE_PX = 2.2, 160
# Rolls that a face is looked at besides its own: quarters, then, if they do not settle it, what is between.
_QUARTERS, _BETWEEN = (90, 180, 270), (45, 135, 225, 315)
# Of small views in four turns the one of a face that stands has a score higher by so much.
_GLANCE_PX, _GLANCE_MARGIN = 96, 0.05
# Looks in which a rolled face is brought upright; of its evidence so much is lost for a degree that is left.
_UPRIGHTING, _LOSS_PER_DEG = 3, 0.004
# Most faces stand as their photo does: one that lies otherwise must have more evidence by the first number,
# one that stands by the second; between them a face is refused.
_ODD_MARGIN, _UPRIGHT_MARGIN = 0.06, 0.005
# A steady first look stands with so much less evidence than another; landmarks so far apart, in eye
# distances, are of two alignments, and up to the last number a steady first look stands.
_FIRST_MARGIN, _OTHER_ALIGNMENT, _SAME_LANDMARKS = 0.1, 0.5, 0.25
# A face that lies otherwise than its photo, or was only proposed, needs the first evidence, others less.
_ODD_EVIDENCE, _WEAK_EVIDENCE = 1.7, 0.85
# Landmarks of faces rolled by more than this are the mean of looks of these scales and rolls, at a square
# about the template.
_AVERAGED_DEG = 15.0
_MEAN_OF = ((1.0, 0.0), (0.9, 8.0), (1.1, -8.0), (0.95, -4.0), (1.07, 4.0))
_MEAN_CENTRE, _MEAN_CROPS, _LEAST_OF_MEAN = (55.5, 60.0), 1.7, 3


class Order(NamedTuple):
    """An order to look at a face, turned by a roll."""

    case: Case
    face: FaceCandidate
    roll_deg: float


class Contest(NamedTuple):
    """A face that its own look has not settled. is_proposal: the face was only proposed, not found."""

    case: Case
    face: FaceCandidate
    sights: list[FaceCandidate]
    is_proposal: bool


class CloseLook:
    """Look at faces one by one, in batches, and settle what each is."""

    def __init__(
        self, detector: Detector, judging: Judging, settings: DetectConfig, looks: LooksSpec
    ) -> None:
        self._detector, self._judging, self._looks = detector, judging, looks
        self._turns, self._refine = settings.turns == "auto", settings.refine == "auto"
        self._side = min(LOOK_SIDE_PX, detector.most_side_px)

    def needed_shrink(self, faces: Sequence[FaceCandidate]) -> int:
        """The largest shrink (1, 2, 4, 8) of a decode that looks at these faces allow."""
        sides = [face.width * LOOK_WIDTHS / self._side for face in faces]
        least = min(sides, default=float(SHRINKS[-1]))
        return max((shrink for shrink in SHRINKS if shrink <= least), default=1)

    def settle(self, faces: Sequence[tuple[Case, FaceCandidate]]) -> None:
        """Settle doubtful faces by looking at them: they become sure, or stay doubtful and are to be dropped.

        A face that was found, and is not believed, goes to `Case.doubted`; a proposal does not.
        """
        seen = self._look([Order(case, face, self._first_roll(case, face)) for case, face in faces])
        contests = []
        for (case, face), sight in zip(faces, seen, strict=True):
            was_found = face.score >= self._detector.score_threshold
            if sight is not None and self._judging.is_sure(sight):
                self._take(case, face, sight)
            elif was_found or face.seen_px >= self._looks.steady_face_px:
                contests.append(Contest(case, face, [sight] if sight else [], not was_found))
            elif sight is not None and self._is_confirmed(case, sight):
                self._take(case, face, sight)
        self._decide(contests)
        self._average([(case, face) for case, face in faces if self._is_far_rolled(case, face)])

    def _first_roll(self, case: Case, face: FaceCandidate) -> float:
        """The roll at which to look at a face: as its landmarks say, if they can be believed."""
        off = face.roll_from(case.upright_deg) if face.is_plausible else None
        if off is None or abs(off) <= self._looks.steady_roll_deg:
            return case.upright_deg
        return wrapped(case.upright_deg + self._looks.roll_gain * off)

    def _is_confirmed(self, case: Case, sight: FaceCandidate) -> bool:
        """Whether a look makes a small proposal a face."""
        return (
            sight.score >= self._detector.score_threshold
            and sight.evidence >= _ODD_EVIDENCE
            and not case.lies_otherwise(sight)
        )

    def _is_rolled(self, case: Case, face: FaceCandidate) -> bool:
        off = face.roll_from(case.upright_deg)
        return off is not None and abs(off) > self._looks.steady_roll_deg

    def _is_far_rolled(self, case: Case, face: FaceCandidate) -> bool:
        off = face.roll_from(case.upright_deg)
        return face.is_sure and face.is_refined and off is not None and abs(off) > _AVERAGED_DEG

    def _take(self, case: Case, face: FaceCandidate, sight: FaceCandidate) -> None:
        """Take a face as its last look showed it, unless its first look was as good."""
        face.is_sure = True
        if sight is face:
            return
        error = landmark_error(face.points, sight.points)
        is_steady = self._is_large(face) and face.score >= self._detector.score_threshold
        if not (is_steady and error <= _SAME_LANDMARKS and not self._is_rolled(case, sight)):
            face.place(sight.box, sight.points)
            face.is_refined = True
        face.score, face.judged, face.judged_error = sight.score, sight.judged, sight.judged_error
        face.landmark_error = error

    # All around a face

    def _decide(self, contests: Sequence[Contest]) -> None:
        """Look at faces from other sides, and take the best look of each, if it stands out."""
        self._judging.ask_where_needed([(c.case, c.face) for c in contests])
        contests = self._glance(contests) if self._turns else contests
        self._look_around(contests if self._turns else [], _QUARTERS)
        open_still = [c for c in contests if not c.is_proposal and not self._is_settled(c)]
        self._look_around(open_still if self._turns else [], _BETWEEN)
        for contest in contests:
            winner = self._winner(contest)
            if winner is not None:
                self._take(contest.case, contest.face, winner)
            elif not contest.is_proposal:
                contest.case.doubted.append(contest.face)

    def _glance(self, contests: Sequence[Contest]) -> list[Contest]:
        """Settle faces that stand, by small views in four turns; what is left may lie otherwise.

        A face that lies otherwise scores higher in its own turn than as it stands, in all that was measured.
        """
        standing_views = (
            self._view_of(Order(c.case, c.face, self._first_roll(c.case, c.face)), _GLANCE_PX)
            for c in contests
        )
        seen = self._seen_in([turned(view, -turn) for view in standing_views for turn in (0, *_QUARTERS)])
        left = []
        for number, contest in enumerate(contests):
            standing, *others = (_score_of(sight) for sight in seen[4 * number : 4 * number + 4])
            stands = standing >= max(others) + _GLANCE_MARGIN
            sight = self._standing(contest) if stands else None
            if sight is None:
                left.append(contest)
            elif not contest.is_proposal:
                self._take(contest.case, contest.face, sight)
        return left

    def _standing(self, contest: Contest) -> FaceCandidate | None:
        """Choose the look that shows a face stand as its photo does: a steady first one, or its own."""
        case, face = contest.case, contest.face
        is_steady = self._is_large(face) and not self._is_rolled(case, face)
        sights = [face, *contest.sights] if is_steady else [*contest.sights, face]
        return next((s for s in sights if s.is_plausible and not case.lies_otherwise(s)), None)

    def _is_large(self, face: FaceCandidate) -> bool:
        return face.seen_px >= self._looks.steady_face_px or not self._refine

    def _look_around(self, contests: Sequence[Contest], angles: Sequence[int]) -> None:
        orders = [
            Order(c.case, c.face, wrapped(self._first_roll(c.case, c.face) + angle))
            for c in contests
            for angle in angles
        ]
        seen = self._look(orders)
        for number, contest in enumerate(contests):
            found = seen[len(angles) * number : len(angles) * (number + 1)]
            contest.sights.extend(sight for sight in found if sight is not None)

    def _is_settled(self, contest: Contest) -> bool:
        winner = self._winner(contest)
        return winner is not None and self._judging.is_sure(winner)

    def _winner(self, contest: Contest) -> FaceCandidate | None:
        own = [contest.face] if self._is_large(contest.face) and not contest.is_proposal else []
        sights = [sight for sight in (*own, *contest.sights) if sight.is_plausible]
        odd = max(filter(contest.case.lies_otherwise, sights), key=_evidence_of, default=None)
        others = [sight for sight in sights if not contest.case.lies_otherwise(sight)]
        upright = max(others, key=_evidence_of, default=None)
        if contest.face in others and contest.face.evidence >= _evidence_of(upright) - _FIRST_MARGIN:
            upright = contest.face
        more = _evidence_of(odd) - max(map(_evidence_of, others), default=0.0)
        best = odd if more > _ODD_MARGIN else upright
        if best is None or (contest.is_proposal and not self._judging.is_sure(best)):
            return None
        if not self._turns:
            return upright
        if best is odd:
            return odd if self._judging.is_sure(best) or best.evidence >= _ODD_EVIDENCE else None
        return best if more <= -_UPRIGHT_MARGIN and best.evidence >= _WEAK_EVIDENCE else None

    # One look

    def _look(self, orders: Sequence[Order]) -> list[FaceCandidate | None]:
        """Look at each face in a view of its own, turned on while the face is rolled; keep the best look."""
        best: list[FaceCandidate | None] = [None] * len(orders)
        merit = [float("-inf")] * len(orders)
        todo = list(enumerate(orders))
        for _ in range(_UPRIGHTING):
            rolled = []
            for (number, order), sight in zip(todo, self._look_once([o for _, o in todo]), strict=True):
                off = None if sight is None else sight.roll_from(order.roll_deg)
                if sight is None or off is None:
                    continue
                worth = sight.evidence - _LOSS_PER_DEG * abs(off)
                if worth > merit[number]:
                    best[number], merit[number] = sight, worth
                if abs(off) > self._looks.steady_roll_deg and sight.is_plausible:
                    further = wrapped(order.roll_deg + self._looks.roll_gain * off)
                    rolled.append((number, Order(order.case, sight, further)))
            todo = rolled
        return best

    def _look_once(self, orders: Sequence[Order]) -> list[FaceCandidate | None]:
        seen = self._seen_in([self._view_of(order, self._side) for order in orders])
        shown = [(order.case, sight) for order, sight in zip(orders, seen, strict=True) if sight is not None]
        self._judging.ask(shown)
        return seen

    def _view_of(self, order: Order, size: int) -> View:
        face = order.face
        side = max(face.width, 1.0) * LOOK_WIDTHS
        return square(order.case.photo, face.centre, side, order.roll_deg, size)

    def _seen_in(self, views: Sequence[View]) -> list[FaceCandidate | None]:
        found = self._detector.look([view.pixels for view in views], self._looks.proposal_score)
        return [in_the_middle(view, faces) for view, faces in zip(views, found, strict=True)]

    def _average(self, faces: Sequence[tuple[Case, FaceCandidate]]) -> None:
        """Make the landmarks of rolled faces the mean of several looks, each a little otherwise."""
        views = [view for case, face in faces for view in self._views_about(case, face)]
        seen = self._seen_in(views)
        for number, (_, face) in enumerate(faces):
            sights = seen[len(_MEAN_OF) * number : len(_MEAN_OF) * (number + 1)]
            points = [
                sight.points
                for sight in sights
                if sight is not None and landmark_error(sight.points, face.points) <= _OTHER_ALIGNMENT
            ]
            if len(points) >= _LEAST_OF_MEAN:
                face.place(face.box, np.mean(points, axis=0))

    def _views_about(self, case: Case, face: FaceCandidate) -> list[View]:
        crop = similarity(face.points, template(112))
        centre = apply(invert(crop), [_MEAN_CENTRE])[0]
        side = _MEAN_CROPS * 112 * reduction(crop)
        roll_deg = face.roll_deg or 0.0
        return [
            square(case.photo, centre, side * scale, wrapped(roll_deg + more), self._side)
            for scale, more in _MEAN_OF
        ]


def _score_of(sight: FaceCandidate | None) -> float:
    return 0.0 if sight is None else sight.score


def _evidence_of(sight: FaceCandidate | None) -> float:
    return 0.0 if sight is None else sight.evidence
