"""The configuration of a night: what is refused, what makes it another night, and its documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from frpipe.core.config import iter_settings
from frpipe.core.errors import ConfigError
from frpipe.core.night_config import NightConfig, load_night

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "nightly.md"
PLACES = {"runs": "nights", "gallery": "people", "photos": "photos"}


def _load(tmp_path: Path, *overrides: str, **sections: object) -> NightConfig:
    path = tmp_path / "night.yaml"
    path.write_text(yaml.safe_dump({**PLACES, **sections}))
    return load_night(path, overrides)


def test_the_example_is_good() -> None:
    config = load_night(ROOT / "configs" / "nightly.yaml")
    assert config.gates.max_reject_ratio is not None


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"gates": {"max_reject_ration": 0.1}}, "gates.max_reject_ration"),
        ({"gates": {"max_reject_ratio": 1.5}}, "gates.max_reject_ratio"),
        ({"photos": None}, "scan needs photos"),
        ({"scan": {"enabled": False}}, "enroll needs scan"),
        ({"enroll": {"enabled": False}}, "consolidate needs enroll"),
        ({"dedup": {"threshold": 0.5, "threshold_card": "card.json"}}, "not both"),
        (
            {"settings": {"resources": {"locate": {"workers": 0}}}},
            "setting settings.resources.locate.workers:",
        ),
        ({"gates": {"max-drift": 0.1}}, "unknown setting gates.max-drift"),
        (
            {"enroll": {"enabled": False}, "consolidate": {"enabled": False}, "drift": {"enabled": False}},
            "identify needs probes",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(
    tmp_path: Path, sections: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, **sections)
    assert said in str(refused.value)


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "night.yaml"
    path.write_text("runs: nights\n")
    with pytest.raises(ConfigError, match="gallery"):
        load_night(path)


def test_every_step_can_be_switched_off(tmp_path: Path) -> None:
    steps = ("scan", "enroll", "consolidate", "dedup", "identify", "drift")
    config = _load(tmp_path, **{step: {"enabled": False} for step in steps})
    assert not any(config.on(step) for step in steps)


def test_gates_prices_and_workers_do_not_make_another_night_and_thresholds_do(tmp_path: Path) -> None:
    plain = _load(tmp_path)
    same = _load(
        tmp_path,
        "gates.max_drift=0.1",
        "cost.node_hour=2",
        "execution.workers=3",
        "retention.nights=2",
        "settings.resources.part_rows=16",
    )
    assert same.identity() == plain.identity()
    for other in ("dedup.threshold=0.6", "settings.detect.policy=largest", "gallery=others"):
        assert _load(tmp_path, other).identity() != plain.identity()


def _table() -> str:
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, default, description in iter_settings(NightConfig):
        if not name.startswith("settings."):
            shown = "needed" if name in {"runs", "gallery", "photos.manifest"} else f"`{json.dumps(default)}`"
            lines.append(f"| `{name}` | {shown} | {description} |")
    return "\n".join(lines)


def _filled(text: str) -> str:
    pattern = r"(<!-- settings -->\n).*?(?=\n#|\Z)"
    return re.sub(pattern, lambda match: f"{match.group(1)}\n{_table()}\n", text, flags=re.DOTALL)


def test_the_documentation_shows_every_setting() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "<!-- settings -->" in text
    assert _filled(text) == text, f"run: python {Path(__file__).name}"


if __name__ == "__main__":
    PAGE.write_text(_filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
