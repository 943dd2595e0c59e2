"""Enroll: read the manifest, locate the faces, embed them, publish, check, report."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from frpipe.core.config import Config
from frpipe.core.errors import ConfigError, ManifestError
from frpipe.core.report import Report
from frpipe.core.schema import reserved_names
from frpipe.io.output import run
from frpipe.io.output.plan import Draft, Plan, plan_of
from frpipe.io.storage.folder import Folder
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.audit import until_whole
from frpipe.jobs.enroll.progress import Progress
from frpipe.jobs.enroll.runner import stream
from frpipe.jobs.going_on import going_on
from frpipe.jobs.output_place import output_place
from frpipe.models.registry import Registry
from frpipe.runtime.allocation import Pools, allocate, most_workers
from frpipe.runtime.session import cluster
from frpipe.stages.models import Models
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.quarantine.attempts import clear_attempts
from frpipe.stages.run_spec import RunSpec

Say = Callable[[str], None]
Joined = Callable[[], Pools]
"""Joins the cluster where that was not done yet; the pools that it has room for."""


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What to enroll, where to, and how. Everything but `say` and `address` decides the outcome.

    obeyed: whom and what to leave out. It may differ from launch to launch: parts that are done stay.
    """

    manifest: str
    output: str
    config: Config
    address: str | None = None
    say: Say = lambda _: None
    obeyed: Obeyed = NOBODY

    def run(self) -> Report:
        """Do it, or what is left of it. Raises a FrpipeError with a remedy if it cannot be done."""
        out = output_place(self.output)
        spec = run_spec(self._settings(out), out.uri, self.obeyed)
        with ExitStack() as stack:
            joined = cache(lambda: self._join(stack))
            plan = self._claim(out, spec, joined)
            stored = run.complete(out)
            if stored is not None:
                self.say("this run is complete already: nothing to do")
                # A driver may have died between its last two steps.
                clear_attempts(out)
                return Report.stored(stored)
            run.reopen(out)
            out.sweep()
            return self._finish(out, spec, plan, joined())

    def dry_run(self) -> DryRun:
        """The plan; the manifest is checked in full, and nothing is written to the output."""
        out = output_place(self.output)
        spec = run_spec(self._settings(out), out.uri)
        draft = self._draft(spec)
        begun = run.check_claim(out, _identity(spec, draft))
        with ExitStack() as stack, tempfile.TemporaryDirectory() as scratch:
            joined = cache(lambda: self._join(stack))
            part_rows = begun["part_rows"] if begun else self._part_rows(draft, joined)
            plan = plan_of(draft, Folder.at(scratch), part_rows, self.config.storage.roots)
            return _describe(self, spec, plan, joined())

    def _join(self, stack: ExitStack) -> Pools:
        return allocate(self.config.resources, stack.enter_context(cluster(self.address, self.say)))

    def _settings(self, out: Folder) -> Config:
        """The configuration; of an output begun before photos were looked at again, with its single look."""
        return going_on(self.config, run.begun(out).get("identity", {}).get("recipe"), self.say)

    def _draft(self, spec: RunSpec) -> Draft:
        return Draft.of(self.manifest, reserved_names(spec.recipe.schema_version))

    def _part_rows(self, draft: Draft, joined: Joined) -> int:
        wanted = self.config.resources.part_rows
        return draft.part_rows(most_workers(joined())) if wanted == "auto" else wanted

    def _claim(self, out: Folder, spec: RunSpec, joined: Joined) -> Plan:
        """Make the output ours before anything is written to it; then check and cut the manifest.

        How large parts are follows from the cluster of the first run, and stays.
        """
        draft = self._draft(spec)
        identity = _identity(spec, draft)
        claimed = run.check_claim(out, identity)
        if claimed is None:
            claimed = run.claim(out, identity, self._facts(spec, self._part_rows(draft, joined)))
        try:
            return plan_of(draft, out, claimed["part_rows"], self.config.storage.roots)
        except (ManifestError, ConfigError):
            run.release(out)
            raise

    def _facts(self, spec: RunSpec, part_rows: int) -> dict[str, Any]:
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "part_rows": part_rows,
            "manifest": self.manifest,
            "config": spec.config.model_dump(mode="json"),
        }

    def _finish(self, out: Folder, spec: RunSpec, plan: Plan, pools: Pools) -> Report:
        start = time.monotonic()
        found, launched = until_whole(
            out, plan, lambda parts: enroll_parts(spec, plan, parts, pools, self.say), self.say
        )
        facts = report_facts(spec, plan, pools, launched=launched, wall_s=time.monotonic() - start)
        report = Report.of(found.tally, **facts)
        run.seal(out, found.files, report.as_dict(), report.text())
        clear_attempts(out)
        return report


def run_spec(config: Config, output: str, obeyed: Obeyed = NOBODY) -> RunSpec:
    """Orders for the workers of a new launch. Raises ModelError where a model is not on this machine."""
    models = Models.of(config)
    spec = RunSpec(output=output, launch=uuid.uuid4().hex[:12], obeyed=obeyed, **models._asdict())
    for card in spec.models:
        Registry.default().find(card)
    return spec


def enroll_parts(spec: RunSpec, plan: Plan, pending: Sequence[int], pools: Pools, say: Say) -> int:
    """Do some parts of a plan on the cluster that has been joined; how many photos they held."""
    if not pending:
        return 0
    todo = sum(plan.rows_of(part) for part in pending)
    if todo < plan.rows:
        say(f"{plan.rows - todo:,} of {plan.rows:,} photos are done already")
    with Progress(todo, say) as progress:
        for receipt in stream(spec, pending, pools, progress.watch):
            progress.add(receipt)
    return progress.done


def report_facts(spec: RunSpec, plan: Plan, pools: Pools, *, launched: int, wall_s: float) -> dict[str, Any]:
    """What a report says beyond what is counted from the output."""
    return {
        "pools": [str(pool) for pool in pools],
        "models": {role: f"{card.name} {card.sha256[:12]}" for role, card in spec.named.items()},
        "parts": plan.parts,
        "launch_rows": launched,
        "wall_s": round(wall_s, 3),
        "rows_per_s": round(launched / max(wall_s, 1e-9), 2),
        "output": spec.output,
        "erased": plan.erased_rows,
    }


def _identity(spec: RunSpec, draft: Draft) -> dict[str, Any]:
    return {
        "schema_version": spec.recipe.schema_version,
        "manifest": draft.fingerprint,
        "recipe": spec.recipe.as_dict(),
    }


def _describe(job: Enrollment, spec: RunSpec, plan: Plan, pools: Pools) -> DryRun:
    policy = job.config.detect.policy
    return DryRun(
        (
            f"manifest  {plan.rows:,} photos in {plan.parts:,} parts of {plan.part_rows:,}",
            f"columns   {', '.join(plan.extra.names) or 'none'} travel through",
            f"detector  {spec.detector.name} ({spec.detector.licence}), faces kept: {policy}",
            f"embedder  {spec.embedder.name} ({spec.embedder.licence})",
            *(f"{'pools' if pool is pools[0] else '':<10}{pool}" for pool in pools),
            f"output    {job.output}: images/ and faces/, {plan.parts:,} files each",
        ),
        {
            "job": "enroll",
            "rows": plan.rows,
            "parts": plan.parts,
            "part_rows": plan.part_rows,
            "columns": plan.extra.names,
            "models": {role: card.name for role, card in spec.named.items()},
            "faces": policy,
            "pools": [str(pool) for pool in pools],
            "output": job.output,
        },
    )
