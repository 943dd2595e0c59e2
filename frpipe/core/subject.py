"""Rules that choose the subject of a photo, and columns of `images` that say where its face was left out."""

from __future__ import annotations

from typing import Literal

SubjectRule = Literal["centre-largest", "largest"]
"""A rule that chooses the subject's face of a photo."""
LEFT_OUT_BY: dict[SubjectRule, str] = {
    "largest": "largest_left_out",
    "centre-largest": "centre_largest_left_out",
}
"""Columns of `images` that say of each rule whether the face that it means was left out."""
