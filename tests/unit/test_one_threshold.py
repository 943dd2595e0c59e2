"""A threshold means the same wherever one is taken, and two photos are decided as a job decides them."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations, islice
from typing import Any

import pyarrow.parquet as pq
import pytest
from frozen import Frozen, copied, settings

import frpipe
from frpipe.cli.jobs import dedup as dedup_cli
from frpipe.cli.jobs import identify as identify_cli
from frpipe.cli.jobs import metrics as metrics_cli
from frpipe.cli.jobs import verify as verify_cli
from frpipe.cli.main import COMMANDS, _parser, main
from frpipe.core.config import Config, load_config
from frpipe.core.threshold import Target, ThresholdCard, least_similarity
from frpipe.io import threshold_file
from frpipe.jobs.enroll.job import Enrollment
from frpipe.jobs.verify.job import PairVerification
from frpipe.models.registry import Registry
from frpipe.runtime.runtime import Runtime

PAIRS = 40
FACES = "detect.policy=centre-largest"
SETTINGS = [*settings(), "detect.not_photographs=keep"]
SET = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frozen]:
    with copied(tmp_path_factory.mktemp("frozen") / "copy") as found:
        yield found


@pytest.fixture(scope="module")
def config() -> Config:
    return load_config(None, [*SETTINGS, FACES])


@pytest.fixture(scope="module")
def verified(home: Frozen) -> list[dict[str, Any]]:
    """What the job found for forty pairs of photos that show a face."""
    photos = [home / f"photos/{name}.png" for name in ("anna-1", "anna-2", "annie", "bela-1", "cora-1")]
    photos += [home / f"probes/{name}.png" for name in ("anna-3", "bela-3", "fred-1")]
    photos += [home / "photos/emil-1.png", home / "later/gina/1.png"]
    (home / "ten.csv").write_text("\n".join(["image_uri", *map(str, photos)]))
    with (home / "forty.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *islice(combinations(photos, 2), PAIRS)])
    runtime = Runtime(choice="local")
    features, result = str(home / "ten"), home / "forty"
    Enrollment(str(home / "ten.csv"), features, load_config(None, SETTINGS), runtime=runtime).run()
    PairVerification(str(home / "forty.csv"), features, str(result), threshold=0.5).run()
    rows: list[dict[str, Any]] = pq.read_table(result / "pairs").to_pylist()
    return rows


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_photos_are_accepted_exactly_where_the_job_accepts_them(
    verified: list[dict[str, Any]], config: Config
) -> None:
    assert len(verified) == PAIRS
    for row in verified:
        a, b, similarity = row["a"], row["b"], row["similarity"]
        found = frpipe.verify(a, b, config=config, threshold=similarity)
        assert found.verified and found.similarity == similarity == found.threshold.similarity
        stricter = math.nextafter(similarity, 2)
        assert stricter > 1 or not frpipe.verify(a, b, config=config, threshold=stricter).verified
        assert frpipe.verify(a, b, config=config, distance=row["distance"]).verified


def test_a_pair_is_accepted_at_the_distance_that_is_printed_of_it() -> None:
    numbers = random.Random(7)
    for _ in range(5000):
        similarity = numbers.uniform(-1, 1) * 10 ** numbers.choice((0, 0, -2, -9))
        distance = 1 - similarity
        least = least_similarity(distance)
        assert similarity >= least and 1 - least <= distance
        assert 1 - math.nextafter(least, -2) > distance
    for wrong in (-0.1, 2.1, math.nan):
        with pytest.raises(frpipe.FrpipeError, match="from 0 to 2"):
            least_similarity(wrong)
    assert (least_similarity(0), least_similarity(2), least_similarity(0.4)) == (1, -1, 0.6)


PARSERS: dict[str, tuple[Any, str]] = {
    "frpipe verify": (lambda: _parser(COMMANDS), "verify a b"),
    "frpipe identify": (lambda: _parser(COMMANDS), "identify a --gallery g"),
    "frpipe gallery outliers": (lambda: _parser(COMMANDS), "gallery outliers g"),
    "frpipe gallery enroll": (lambda: _parser(COMMANDS), "gallery enroll g --features f"),
    "verify": (verify_cli._parser, "--pairs p --features f --output o"),
    "identify": (identify_cli._parser, "--probes p --gallery g --output o"),
    "dedup": (dedup_cli._parser, "--gallery g --output o"),
    "metrics verification": (metrics_cli._parser, "verification --results r --output o"),
    "metrics identification": (metrics_cli._parser, "identification --results r --output o"),
    "metrics all-pairs": (metrics_cli._parser, "all-pairs --gallery g --output o"),
}


@pytest.mark.parametrize("command", PARSERS)
def test_every_command_takes_a_similarity_or_a_distance_by_name(command: str) -> None:
    make, words = PARSERS[command]
    given = [
        make().parse_args([*words.split(), *option]).threshold
        for option in (("--threshold", "0.6"), ("--distance", "0.4"))
    ]
    assert given == ([[0.6], [0.6]] if command.startswith("metrics") else [0.6, 0.6])
    for distance in ("-0.1", "2.1", "nan", "near"):
        with pytest.raises(SystemExit, match="2"):
            make().parse_args([*words.split(), "--distance", distance])


def test_several_thresholds_may_be_of_both_kinds() -> None:
    words = [
        "verification",
        "--results",
        "r",
        "--output",
        "o",
        "--distance",
        "0.4",
        "0.3",
        "--threshold",
        "0.8",
        "0.9",
    ]
    assert metrics_cli._parser().parse_args(words).threshold == pytest.approx([0.6, 0.7, 0.8, 0.9])


def test_the_command_prints_both_and_says_what_has_changed(
    home: Frozen, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(home / "photos/anna-1.png"), str(home / "photos/bela-1.png"), *SET]
    assert main([*words, "--distance", "0.4", "--faces", "largest"]) == 0
    plain = capsys.readouterr()
    assert main([*words, "--threshold", "0.6", "--policy", "largest"]) == 0
    warned = capsys.readouterr()
    assert ">= 0.6000 (distance" in plain.out or "< 0.6000 (distance" in plain.out
    assert "0.4000)" in plain.out and "face policy largest" in plain.out
    assert plain.out.splitlines()[0] == warned.out.splitlines()[0]
    assert plain.err == ""
    threshold, policy = warned.err.splitlines()
    assert threshold.startswith("warning: --threshold 0.6 is a similarity") and "--distance 0.6" in threshold
    assert policy == "warning: --policy is called --faces now: say --faces largest"


def test_a_threshold_in_python_says_that_it_is_a_similarity(home: Frozen, config: Config) -> None:
    photo = home / "photos/anna-1.png"
    with pytest.warns(FutureWarning, match="distance="):
        frpipe.verify(photo, photo, config=config, threshold=0.6)
    with pytest.raises(frpipe.FrpipeError, match="a threshold and a distance"):
        frpipe.verify(photo, photo, config=config, threshold=0.6, distance=0.4)


def test_a_threshold_card_is_taken_by_the_command(home: Frozen, capsys: pytest.CaptureFixture[str]) -> None:
    own = Registry.default().card("tiny_embedder").sha256
    for name, embedder in (("own", own), ("other", "0" * 64)):
        card = ThresholdCard(
            embedder_hash=embedder,
            kind="distance",
            value=0.4,
            purpose="verification",
            target=Target(rate="FMR", value=0.01),
            source="our photos",
            created=datetime(2026, 5, 1, tzinfo=UTC),
        )
        threshold_file.save(str(home / f"{name}.json"), card)
    photo = str(home / "photos/anna-1.png")
    words = ["verify", photo, photo, *SET, "--json", "--threshold-card"]
    assert main([*words, str(home / "own.json")]) == 0
    threshold = json.loads(capsys.readouterr().out)["threshold"]
    assert (threshold["similarity"], threshold["distance"]) == (0.6, 0.4)
    assert "our photos" in threshold["source"]
    assert main([*words, str(home / "other.json")]) == 10
    assert "0" * 64 in capsys.readouterr().err
