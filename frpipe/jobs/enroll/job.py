"""Enroll: read the manifest, locate the faces, embed them, publish, check, report."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import cv2
import pyarrow as pa

from frpipe.core.config import Config
from frpipe.core.counted import counted
from frpipe.core.errors import ConfigError, InvariantError, ManifestError, ModelMismatch, ModelMissing
from frpipe.core.report import Report
from frpipe.core.schema import LATER_COLUMNS
from frpipe.io.output import run
from frpipe.io.output.features import Features
from frpipe.io.output.plan import Draft, ManifestPlan, plan_of, read_part, worth_while
from frpipe.io.storage.folder import Folder
from frpipe.jobs.contract import Launch, Plan, Startable
from frpipe.jobs.dry_run import DryRun
from frpipe.jobs.enroll.audit import Audit, PartWork
from frpipe.jobs.estimate import Estimate, enrolling
from frpipe.jobs.face_pipeline import pipeline_of
from frpipe.jobs.going_on import columns_of, going_on
from frpipe.jobs.output_place import output_place
from frpipe.jobs.progress import PhotoProgress
from frpipe.jobs.rejects import held_without_colour
from frpipe.models.card import Card
from frpipe.models.registry import Registry
from frpipe.runtime.allocation import Node, Pools, allocate, most_workers
from frpipe.runtime.executor import Executor, Read, Step, Watch, Work
from frpipe.runtime.host import Host
from frpipe.runtime.runtime import LOCAL_PHOTOS, Runtime
from frpipe.stages import workers
from frpipe.stages.models import Models
from frpipe.stages.obeyed import NOBODY, Obeyed
from frpipe.stages.quarantine.attempts import clear_attempts
from frpipe.stages.run_spec import RunSpec
from frpipe.stages.stage import stage_class

Say = Callable[[str], None]
_WORKERS: dict[str, Callable[[RunSpec, Host], Work]] = {
    "enroll": workers.Enroll,
    "locate": workers.Locate,
    "embed": workers.Embed,
    # A task would do, but Ray ends idle task processes and starts new ones for the next, at seconds each.
    "publish": workers.Publish,
}


@dataclass(frozen=True, slots=True)
class Enrollment(Startable[Report]):
    """An enrollment: what, where to, and how. Everything but `say` and `runtime` decides the outcome.

    obeyed: whom and what to leave out. It may differ from launch to launch: parts that are done stay.
    """

    manifest: str
    output: str
    config: Config
    runtime: Runtime = field(default_factory=Runtime)
    say: Say = lambda _: None
    obeyed: Obeyed = NOBODY

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime", self.runtime.choosing(self.config.run.executor))

    def place(self) -> Folder:
        """The output folder."""
        return output_place(self.output)

    def plan(self, out: Folder, *, dry: bool = False) -> EnrollPlan:
        """Plan the work on the manifest; an output that was begun keeps the recipe that it began with."""
        begun = run.begun(out)
        recipe = begun.get("identity", {}).get("recipe")
        config = going_on(self.config, recipe, self.say)
        spec = run_spec(config, out.uri, self.obeyed, columns=columns_of(recipe))
        draft = Draft.of(self.manifest, spec.reserved_names, config.manifest.nobody, self.say)
        return EnrollPlan(self, spec, draft, begun.get("part_rows"))


@dataclass
class EnrollPlan(PartWork, Plan[Audit]):
    """A manifest that is identified, and cut once the output is claimed.

    part_rows: rows of a part, as the first launch on the output fixed it; None: nothing was begun.
    """

    job: Enrollment
    spec: RunSpec
    draft: Draft
    part_rows: int | None
    partition: ManifestPlan | None = field(default=None, init=False)
    pools: Pools = field(default=(), init=False)
    sample: Sequence[str] = field(default=(), init=False)

    @property
    def identity(self) -> dict[str, Any]:
        return {
            "schema_version": self.spec.recipe.schema_version,
            "manifest": self.draft.fingerprint,
            "recipe": self.spec.recipe.as_dict(),
            **({"nobody": nobody} if (nobody := sorted(self.draft.manifest.nobody)) else {}),
        }

    @property
    def told(self) -> Say:
        return self.job.say

    @property
    def stall_timeout_s(self) -> float | None:
        return self.spec.config.run.stall_timeout_s

    @property
    def small(self) -> bool:
        return is_small(self.spec, self.draft.rows_estimate)

    @property
    def cut(self) -> ManifestPlan:
        if self.partition is None:
            raise InvariantError("the manifest is not cut yet")
        return self.partition

    def settle(self, nodes: Sequence[Node]) -> None:
        self.pools = allocate(self.spec.config.resources, nodes)

    def facts(self) -> dict[str, Any]:
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "part_rows": self._rows_of_part(),
            "manifest": self.job.manifest,
            "config": self.spec.config.model_dump(mode="json"),
        }

    def claimed(self, out: Folder, facts: Mapping[str, Any]) -> None:
        """Check and cut the manifest. How large parts are follows from the cluster of the first launch."""
        self.spec = self.spec.model_copy(update={"claim": facts.get(run.CLAIM, "")})
        try:
            roots = self.spec.config.storage.roots
            self.partition = plan_of(self.draft, out, facts["part_rows"], roots, self.job.say)
        except (ManifestError, ConfigError):
            run.release(out)
            raise

    def do(self, out: Folder, parts: Sequence[int], executor: Executor) -> int:
        return enroll_parts(self.spec, self.cut, parts, self.pools, executor, say=self.job.say)

    def publish(self, out: Folder, found: Audit, launch: Launch) -> Report:
        facts = report_facts(self.spec, self.cut, self.pools, launch)
        facts["held_without_colour"] = held_without_colour(Features(out))
        report = Report.of(found.tally, **facts)
        run.seal(out, found.files, report.as_dict(), report.text())
        clear_attempts(out)
        return report

    def stored(self, out: Folder, report: dict[str, Any]) -> Report:
        # A driver may have died between its last two steps.
        clear_attempts(out)
        return Report.stored(report)

    def describe(self) -> DryRun:
        size, roots = self.part_rows or self._rows_of_part(), self.spec.config.storage.roots
        with tempfile.TemporaryDirectory() as scratch:
            plan = plan_of(self.draft, Folder.at(scratch), size, roots, self.job.say)
            first = read_part(Folder.at(scratch), 0) if plan.parts else None
        self.partition, self.sample = plan, first["location"].to_pylist() if first is not None else []
        return _described(self.job, self.spec, plan, self.pools)

    def estimate(self) -> Estimate:
        """Estimate by the first part, once the plan is described."""
        return estimate_of(self.spec, self.sample, self.cut.rows, self.pools)

    def _rows_of_part(self) -> int:
        resources = self.spec.config.resources
        if resources.part_rows != "auto":
            return resources.part_rows
        workers = most_workers(self.pools)
        workers = min(workers, worth_while(self.draft.rows_estimate))
        return self.draft.part_rows(workers, self.spec.config.storage.roots)


def run_spec(
    config: Config, output: str, obeyed: Obeyed = NOBODY, *, columns: tuple[str, ...] = LATER_COLUMNS
) -> RunSpec:
    """Make the orders for the workers of a new launch. Raises ModelError: a model is not on this machine."""
    models = Models.of(config)
    launch = uuid.uuid4().hex[:12]
    spec = RunSpec(output=output, launch=launch, obeyed=obeyed, columns=columns, **models._asdict())
    registry = Registry.default()
    registry.require(spec.models)
    for card in spec.models:
        registry.find(card)
    return spec


def enroll_parts(
    spec: RunSpec,
    plan: ManifestPlan,
    pending: Sequence[int],
    pools: Pools,
    executor: Executor,
    *,
    say: Say,
) -> int:
    """Do some parts of a plan; return how many photos they held."""
    if not pending:
        return 0
    todo = sum(plan.rows_of(part) for part in pending)
    if todo < plan.rows:
        say(f"{plan.rows - todo:,} of {plan.rows:,} photos are done already")
    with PhotoProgress(todo, say) as progress:
        for receipt in stream(spec, pending, pools, executor, progress.watch):
            progress.add(receipt)
    return progress.done


def stream(
    spec: RunSpec, parts: Sequence[int], pools: Pools, executor: Executor, watch: Watch
) -> Iterator[dict[str, Any]]:
    """Do some parts; yield a receipt for each as it is published, in the order that they finish.

    watch: given what to call, meanwhile and in any thread, to see how far each part is.
    Raises the errors of the workers, and ClusterError where no part makes progress for `run.stall_timeout_s`.
    """
    weights = {card.name: executor.share(partial(_weights, card)) for card in spec.models}
    steps = [Step(pool.name, pool, _Maker(pool.name, spec, weights)) for pool in pools]
    tickets = [{"part": part} for part in parts]
    return executor.stream(tickets, steps, stall_timeout_s=spec.config.run.stall_timeout_s, watch=watch)


@dataclass(frozen=True, slots=True)
class _Maker:
    """Make a worker of a pool on its node. weights: by the card's name."""

    pool: str
    spec: RunSpec
    weights: dict[str, Read]

    def __call__(self, host: Host) -> Work:
        # What OpenCV does is spread over photos, not threads: these would take the CPUs of other workers.
        cv2.setNumThreads(1)
        for card in self.spec.models_of(self.pool):
            _bring(card, self.weights[card.name])
        return _WORKERS[self.pool](self.spec, host)


def _weights(card: Card) -> bytes:
    return Registry.default().find(card).read_bytes()


def _bring(card: Card, weights: Read) -> None:
    """Make sure that a model's weights lie on this node; the driver's copy is taken if they do not."""
    registry = Registry.default()
    try:
        registry.find(card)
    except (ModelMissing, ModelMismatch):
        registry.admit(card, weights())
        registry.find(card)


def is_small(spec: RunSpec, rows: int) -> bool:
    """Whether so few photos are enrolled that no cluster is worth its start."""
    resources = spec.config.resources
    return rows <= LOCAL_PHOTOS and not (resources.locate.num_gpus or resources.embed.num_gpus)


def estimate_of(spec: RunSpec, locations: Sequence[str], rows: int, pools: Pools) -> Estimate:
    """Estimate what it takes to enroll so many photos. locations: of some of them."""
    weights = sum(Registry.default().find(card).stat().st_size for card in spec.models) / 1e6
    memory_mb = 3 * weights + spec.config.resources.window_mb
    on_cpu = all(pool.device == "cpu" for pool in pools)
    workers = min(most_workers(pools), worth_while(rows))
    return enrolling(locations if on_cpu else (), rows, workers, partial(_timer, spec.config), memory_mb)


def _timer(config: Config, _host: Host) -> Work:
    """Make the function that measures the seconds to locate and embed a photo."""
    pipeline = pipeline_of(config)

    def located(photos: Sequence[str]) -> None:
        for outcome in pipeline.locate(photos):
            if len(outcome.crops):
                pipeline.embed([*outcome.crops])

    def timed(ticket: pa.Table) -> pa.Table:
        (photos,) = ticket["photos"].to_pylist()
        located(photos[:1])
        start = time.perf_counter()
        located(photos)
        return pa.table({"seconds": [(time.perf_counter() - start) / len(photos)]})

    return timed


def report_facts(spec: RunSpec, plan: ManifestPlan, pools: Pools, launch: Launch) -> dict[str, Any]:
    """Facts of a report beyond what is counted from the output."""
    return {
        "pools": [str(pool) for pool in pools],
        "models": {role: f"{card.name} {card.sha256[:12]}" for role, card in spec.named.items()},
        "parts": plan.parts,
        "launch_rows": launch.rows,
        "wall_s": round(launch.wall_s, 3),
        "rows_per_s": round(launch.rows_per_s, 2),
        "output": spec.output,
        "erased": plan.erased_rows,
    }


def _staged(spec: RunSpec, name: str) -> str:
    """Describe a further stage, its version, and its networks, with those that it could have and has not."""
    cards = spec.stage_cards.get(name, {})
    roles = (
        f"{setting}: {cards[setting].name if setting in cards else 'none'}"
        for setting in stage_class(name).roles
    )
    words = ", ".join(roles)
    return f"{name} {spec.recipe.stages[name]['version']}{f' ({words})' if words else ''}"


def _described(job: Enrollment, spec: RunSpec, plan: ManifestPlan, pools: Pools) -> DryRun:
    policy = job.config.detect.policy
    held = ["held/"] if any(stage.get("holds") for stage in spec.recipe.stages.values()) else []
    further = (f"embeddings/{card.name}/" for card in spec.further)
    *others, last = ("images/", "faces/", *held, *further)
    tables = f"{', '.join(others)} and {last}"
    stages = {name: stage["version"] for name, stage in spec.recipe.stages.items()}
    return DryRun(
        (
            f"manifest  {counted(plan.rows, 'photos')} in {counted(plan.parts, 'parts')} of "
            f"{plan.part_rows:,}",
            f"columns   {', '.join(plan.extra.names) or 'none'} travel through",
            f"detector  {spec.detector.name} ({spec.detector.licence}), faces kept: {policy}",
            *(f"embedder  {card.name} ({card.licence})" for card in (spec.embedder, *spec.further)),
            *((f"stages    {', '.join(_staged(spec, name) for name in stages)}",) if stages else ()),
            *(f"{'pools' if pool is pools[0] else '':<10}{pool}" for pool in pools),
            f"output    {job.output}: {tables}, {counted(plan.parts, 'files')} each",
        ),
        {
            "job": "enroll",
            "rows": plan.rows,
            "parts": plan.parts,
            "part_rows": plan.part_rows,
            "columns": plan.extra.names,
            "models": {role: card.name for role, card in spec.named.items()},
            **({"stages": stages} if stages else {}),
            "faces": policy,
            "pools": [str(pool) for pool in pools],
            "output": job.output,
        },
    )
