"""Choose the threshold of a job: given by hand, by a threshold card, or by the embedder's card."""

from __future__ import annotations

import math
from collections.abc import Collection

from frpipe.core.errors import ConfigError, GalleryMismatch
from frpipe.core.threshold import Target, Threshold, ThresholdCard
from frpipe.models.card import Card

# A gallery smaller than this share of the one that a card was made for: its threshold is needlessly strict.
_MUCH_SMALLER = 0.5
_NOBODY = "there is nobody to search: every probe is a stranger"


def threshold_of(
    embedder_hash: str,
    *,
    given: float | None = None,
    card: ThresholdCard | None = None,
    embedder_card: Card | None = None,
    searched: int = 1,
    subjects: int | None = None,
    preprocessing: Collection[str] | None = None,
) -> Threshold:
    """Choose the threshold for an embedder's vectors: `given`, else the threshold card's, else the model's.

    given: a similarity.  searched: templates that each probe is compared with; 1 in verification.
    subjects: people whose templates these are; None: as many.  preprocessing: the hashes that stand for the
    recipe of the vectors; None: not compared with the card's.
    Raises ConfigError where there is no threshold or `given` is no similarity; GalleryMismatch, both hashes
    named, where the threshold card is of another embedder or another preprocessing.
    """
    if given is not None:
        if not -1 <= given <= 1:
            raise ConfigError("--threshold is a similarity, from -1 to 1", "for a distance say --distance")
        return Threshold.stated("similarity", given, "given")
    if card is not None:
        _check_same("embedder", card.embedder_hash, embedder_hash)
        _check_preprocessing(card.preprocessing_hash, preprocessing)
        return _of_threshold_card(card, searched, searched if subjects is None else subjects)
    return _of_model_card(embedder_card, searched)


def expected_fpir(rate: float, times: float) -> float:
    """The probability of at least one acceptance: `1 - (1 - rate)^times`, as if trials were independent.

    rate: FMR, with times the templates of a gallery; or FPIR, with times by how much the gallery has grown.
    """
    return 1.0 if rate >= 1 else -math.expm1(times * math.log1p(-rate))


def _check_preprocessing(own: str | None, its: Collection[str] | None) -> None:
    if own is not None and its is not None and own not in its:
        _check_same("preprocessing", own, " or ".join(sorted(its)))


def _check_same(what: str, own: str, its: str) -> None:
    if own != its:
        raise GalleryMismatch(
            f"{what}: the threshold card's is {own}, that of the vectors is {its}",
            "a threshold holds for one embedder, detector and way of aligning: choose one on such vectors "
            "(docs/thresholds.md), or give --threshold",
        )


def _of_threshold_card(card: ThresholdCard, searched: int, subjects: int) -> Threshold:
    fmr = card.target.value if card.target and card.target.rate == "FMR" else None
    warning: str | None
    if not searched:
        warning = _NOBODY
    elif card.purpose == "verification":
        warning = _warning_one_to_one("the threshold card", fmr, searched) if searched > 1 else None
    elif searched == 1:
        warning = (
            f"the threshold card was chosen for a search among {card.gallery_subjects:,} subjects: for one "
            "comparison it is stricter than need be, and more mated pairs are rejected"
        )
    else:
        warning = _warning_size(card.target, card.gallery_subjects or subjects, subjects)
    return Threshold.stated(
        card.kind,
        card.value,
        purpose=card.purpose,
        source=f"threshold card: {card.source}",
        target=_in_words(card),
        fmr=fmr,
        warning=warning,
    )


def _of_model_card(card: Card | None, searched: int) -> Threshold:
    known = card.embedder.threshold if card and card.embedder else None
    if card is None or known is None:
        why = (
            "has no card on this machine" if card is None else f"({card.name}) has a card without a threshold"
        )
        raise ConfigError(
            f"there is no threshold: the embedder {why}",
            "give --threshold (a similarity) or --threshold-card; see docs/thresholds.md",
        )
    warning = (
        f"the threshold is the default of the model card of {card.name}: choose one on photos like yours"
    )
    if searched > 1:
        warning = _warning_one_to_one(f"the model card of {card.name}", known.fmr, searched)
    elif not searched:
        warning = _NOBODY
    return Threshold.stated(
        known.kind,
        known.value,
        purpose="verification",
        source=f"model card of {card.name}: {known.source}",
        target=None if known.fmr is None else f"FMR {known.fmr:g} of one comparison",
        fmr=known.fmr,
        warning=warning,
    )


def _warning_one_to_one(whose: str, fmr: float | None, searched: int) -> str:
    start = f"the threshold of {whose} is meant for one-to-one comparison"
    if fmr is None:
        return (
            f"{start}, and its FMR is unknown: among {searched:,} templates strangers are accepted more often"
        )
    return (
        f"{start} at FMR {fmr:g}: with {searched:,} templates a stranger is accepted with probability "
        f"{expected_fpir(fmr, searched):.3g} (1 - (1 - FMR)^N); choose a threshold for this gallery"
    )


def _warning_size(target: Target | None, chosen_for: int, subjects: int) -> str | None:
    start = f"the threshold card was chosen for {chosen_for:,} subjects, and the gallery has {subjects:,}"
    if subjects < chosen_for * _MUCH_SMALLER:
        return f"{start}: it is stricter than need be, and more mated searches miss"
    if subjects <= chosen_for:
        return None
    if target is None or target.rate == "FMR":
        return f"{start}: strangers are accepted more often than it was chosen for"
    grown = expected_fpir(target.value, subjects / chosen_for)
    return f"{start}: expect an FPIR near {grown:.3g} in place of {target.value:g} (1 - (1 - FPIR)^(N/n))"


def _in_words(card: ThresholdCard) -> str | None:
    if card.target is None:
        return None
    what = f"among {card.gallery_subjects:,} subjects" if card.target.rate == "FPIR" else "of one comparison"
    return f"{card.target.rate} {card.target.value:g} {what}"
