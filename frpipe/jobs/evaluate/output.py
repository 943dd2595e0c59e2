"""The files of an evaluation: a page, plots, tables, JSON, threshold cards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from frpipe.core.calibration import CalibrationCard
from frpipe.core.threshold import ThresholdCard, both_forms
from frpipe.evaluation.difference import Difference
from frpipe.evaluation.evaluation import Evaluation
from frpipe.evaluation.number import Number
from frpipe.evaluation.pad import SPECIES
from frpipe.evaluation.plots.figures import Plot, figures
from frpipe.evaluation.quality import COLUMN as QUALITY
from frpipe.evaluation.report.page import page
from frpipe.evaluation.tables import as_json, curves_table, differences_table, numbers_table
from frpipe.io.output import run
from frpipe.io.output.parts import PartFile, to_parquet
from frpipe.io.storage.folder import Folder

PAGE = "report.html"
NUMBERS = "numbers.json"
_TITLES = {
    "verification": "Verification",
    "identification": "Identification",
    "pad": "Presentation attack detection",
}
# Measures of each system that a report's text names.
_HEADLINES = (
    "accuracy",
    "EER",
    "AUC_exact",
    "folds_accuracy",
    "TAR",
    "TPIR",
    "CMC",
    "APCER",
    "BPCER",
    "BPCER_fixed",
    "APNRR",
    "BPNRR",
    "IAPAR",
)
# Measures that it names of each group of these columns.
_OF_GROUPS = {SPECIES: ("APCER", "IAPAR"), QUALITY: ("EDC_gain",)}

# Measures whose note names the species.
_NOTED = ("APCER", "BPCER_fixed", "IAPAR")


@dataclass(frozen=True, slots=True)
class MetricsOutput:
    """The output of an evaluation.

    pictures: JPEGs of photos by their ids, which the page shows; None: none.
    """

    folder: Folder
    evaluations: Sequence[Evaluation]
    differences: Sequence[Difference]
    created: datetime
    title: str = ""
    pictures: Mapping[str, bytes] | None = None

    def publish(
        self, cards: Mapping[str, ThresholdCard], calibrations: Mapping[str, CalibrationCard] | None = None
    ) -> dict[str, Any]:
        """Write all files, then the report and the mark of success; the report."""
        files = self.write(cards, calibrations or {})
        report = self._report(cards)
        if calibrations:
            report["calibrations"] = {
                name: {"cllr": card.cllr, "min_cllr": card.min_cllr} for name, card in calibrations.items()
            }
        run.seal(self.folder, files, report, report_text(report))
        return report

    def write(
        self, cards: Mapping[str, ThresholdCard], calibrations: Mapping[str, CalibrationCard] | None = None
    ) -> list[PartFile]:
        """Write the page and what belongs to it."""
        named: dict[str, ThresholdCard | CalibrationCard] = {**cards, **(calibrations or {})}
        plots = figures(self.evaluations)
        return [self._put(name, data) for name, data in self._contents(plots, named).items()]

    def _contents(
        self, plots: Sequence[Plot], cards: Mapping[str, ThresholdCard | CalibrationCard]
    ) -> dict[str, bytes]:
        shown = page(
            self.evaluations,
            self.differences,
            plots,
            title=self._title,
            created=self.created.isoformat(timespec="seconds"),
            thumbnails=self.pictures,
        )
        tables = {
            "numbers.parquet": numbers_table(self.evaluations),
            "curves.parquet": curves_table(self.evaluations),
            "differences.parquet": differences_table(self.differences),
        }
        return {
            PAGE: shown.encode(),
            NUMBERS: as_json(self.evaluations, self.differences).encode(),
            **{name: to_parquet(table, {"frpipe.job": "metrics"}) for name, table in tables.items()},
            **{f"plots/{plot.name}.svg": plot.svg().encode() for plot in plots},
            **{f"plots/{plot.name}.png": plot.png() for plot in plots},
            **{f"cards/{file_name(name)}.json": card.json_text().encode() for name, card in cards.items()},
        }

    def _put(self, name: str, data: bytes) -> PartFile:
        self.folder.write(name, data)
        return PartFile(name, 0, len(data), hashlib.sha256(data).hexdigest())

    @property
    def _title(self) -> str:
        task = _TITLES[self.evaluations[0].task]
        return self.title or f"{task}: {', '.join(one.name for one in self.evaluations)}"

    def _report(self, cards: Mapping[str, ThresholdCard]) -> dict[str, Any]:
        return {
            "task": self.evaluations[0].task,
            "title": self._title,
            "output": self.folder.uri,
            "cards": {name: card.similarity for name, card in cards.items()},
            "systems": [
                {
                    "name": one.name,
                    "counts": dict(one.counts),
                    "headlines": [_headline(n) for n in one.numbers if _is_headline(n)],
                    "warnings": list(one.warnings),
                }
                for one in self.evaluations
            ],
            "differences": len(self.differences),
            "significant": sum(bool(one.significant) for one in self.differences),
        }


def report_text(report: dict[str, Any]) -> str:
    """Write a report for people."""
    lines = [report["title"]]
    for system in report["systems"]:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in system["counts"].items())
        lines += [f"{system['name']}: {counts}", *(f"  {line}" for line in system["headlines"])]
        lines += [f"  warning: {warning}" for warning in system["warnings"]]
    if report["differences"]:
        lines.append(f"{report['significant']} of {report['differences']} differences are significant")
    lines += [f"threshold card {name}: {both_forms(value)}" for name, value in report["cards"].items()]
    lines += [_calibration(name, found) for name, found in report.get("calibrations", {}).items()]
    return "\n".join([*lines, f"page       {report['output']}/{PAGE}"]) + "\n"


def _calibration(name: str, costs: dict[str, float | None]) -> str:
    if costs["cllr"] is None:
        return f"calibration card {name}"
    return f"calibration card {name}: Cllr {costs['cllr']:.4g}, cross-fitted; least {costs['min_cllr']:.4g}"


def _is_headline(number: Number) -> bool:
    if number.column is not None:
        return number.measure in _OF_GROUPS.get(number.column, ())
    return number.measure in _HEADLINES


def _headline(number: Number) -> str:
    title = number.title if number.group is None else f"{number.title}, {number.group}"
    if number.value is None:
        return f"{title}: {number.note}"
    between = f" [{number.low:.4g}, {number.high:.4g}]" if number.low is not None else ""
    counts = f" ({number.count:,} of {number.trials:,})" if number.trials else ""
    said = f"; {number.note}" if number.measure in _NOTED and number.note else ""
    return f"{title}: {number.value:.4g}{between}{counts}{said}"


def file_name(name: str) -> str:
    """Turn a name for people into a part of a file's; letters of any script stay.

    Never that of a hidden file.
    """
    return re.sub(r"^\.", "_", re.sub(r"[^\w.+-]+", "_", name))
