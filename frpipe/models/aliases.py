"""Names that people give models, and the nearest model where frpipe has none of that name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from frpipe.core.errors import ModelError
from frpipe.models.card import Card

# Names that other libraries take and that no card here stands for.
_ELSEWHERE = {
    "facenet": "embedder",
    "facenet512": "embedder",
    "vggface": "embedder",
    "openface": "embedder",
    "deepface": "embedder",
    "deepid": "embedder",
    "dlib": "embedder",
    "ghostfacenet": "embedder",
    "cosface": "embedder",
    "magface": "embedder",
    "mtcnn": "detector",
    "fastmtcnn": "detector",
    "ssd": "detector",
    "opencv": "detector",
    "mediapipe": "detector",
    "yolov8": "detector",
    "yolov8n": "detector",
    "yolov8face": "detector",
    "centerface": "detector",
    "blazeface": "detector",
}
_NEAR = {
    "embedder": "ArcFace of 512 values are arcface_buffalo_l and auraface_v1, of 128 values sface_2021dec",
    "detector": "detectors with five landmarks are retinaface_mv1_025, yunet_2023mar and scrfd_10g_buffalo_l",
}
_ALL = "`frpipe models list` shows them all"


def called(name: str, cards: Sequence[Card]) -> list[Card]:
    """Find the cards with this name or alias; case and the signs between words do not count."""
    wanted = _key(name)
    return [card for card in cards if wanted in map(_key, (card.name, *card.aliases))]


def unknown(name: str, cards: Sequence[Card]) -> ModelError:
    """The error for a name that is no card's."""
    role = _ELSEWHERE.get(_key(name))
    if role is not None:
        return ModelError(f"frpipe has no {name}", f"{_NEAR[role]}; {_ALL}")
    known = {_key(each): card.name for card in cards for each in (card.name, *card.aliases)}
    near = difflib.get_close_matches(_key(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {known[near[0]]}? " if near else ""
    return ModelError(f"no model is called {name}", f"{hint}{_ALL}")


def _key(name: str) -> str:
    return re.sub(r"[-_. ]", "", name).casefold()
