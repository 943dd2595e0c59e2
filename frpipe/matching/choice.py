"""Choose the kernel of a search by trying those of the CPU on a sample of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from frpipe.core.errors import FrpipeError
from frpipe.core.kernel_names import Name, Wish
from frpipe.matching.basis import Basis, Spectrum
from frpipe.matching.blas import Blas
from frpipe.matching.kernel import Floats, Kernel
from frpipe.matching.kernels import kernel_of

SAMPLE_ROWS, SAMPLE_PROBES = 8192, 256
"""How many gallery rows and probes stand for all."""

Timer = Callable[[Callable[[], Any]], float]

_TILE, _TURNS = 2048, 3
# Fewer pairs are done in about the time that it takes to choose.
_FEW_PAIRS = 100_000_000
# A basis ends before a multiple of this, so that with the rest it is one, and a product has no odd ends.
_STEP = 32
# Share of the energy below which a basis rules out next to nothing, and at which it is as good as all; and
# of the dimensions above which nothing is gained.
_LEAST_HELD, _ALL_HELD, _MOST_DIMS = 0.9, 0.9999, 0.75
# A kernel of few dimensions has to take less than this of the time of the best other.
_GAIN = 0.9
# Forms that are stored serve later searches too: so many share what it takes to make them.
_SEARCHES = 4
# Below this share of the time of stored forms, others are made for a search that names its kernel.
_PREFERRED = 0.75
# As the floor rises while a search goes on, halfway it is at the best of half of the rows.
_HALFWAY = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of a gallery, (n, dim), and some probes, (m, dim), that stand for all."""

    rows: Floats
    probes: Floats


@dataclass(frozen=True, slots=True)
class Task:
    """A search to be made: `rows` templates, for the k best of each probe that are of similarity `at_least`.

    k: None for all that are.  uses: probes that a row is compared with once it is in the form of a kernel.
    """

    rows: int
    k: int | None
    at_least: float
    uses: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Forms of rows that need not be made.

    basis: that they are in; None: there are none yet, and those that are made can be stored for others.
    lacking: by kernel, the share of rows whose form is not stored.
    """

    basis: Basis | None = None
    lacking: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """A kernel, with the basis that it needs, and why it was taken, for people.

    ns: that a comparison took in a trial, in nanoseconds; None: it was not tried.  stored: whether the basis
    is that of stored forms.
    """

    name: Name
    why: str
    basis: Basis | None = None
    ns: float | None = None
    stored: bool = False

    def beside(self, gpus: float) -> Choice:
        """Add a word on the GPUs that the machines have to the choice's reason."""
        if self.name == "cuda":
            return self
        return replace(self, why=f"{self.why}; {'GPUs are for --kernel cuda' if gpus else 'no GPU'}")


@dataclass(frozen=True, slots=True)
class _Tried:
    name: Name
    ns: float
    basis: Basis | None = None
    stored: bool = False


def worth_a_look(wish: Wish, pairs: int) -> bool:
    """Whether a choice takes a sample: not where the kernel is named, nor for few pairs."""
    return wish in ("subspace", "subspace-int8") or (wish == "auto" and pairs > _FEW_PAIRS)


def named(wish: Wish) -> Choice:
    """Choose without a sample."""
    if wish == "auto":
        return Choice("fp32", "so few comparisons that a choice would take longer")
    assert wish not in ("subspace", "subspace-int8")
    return Choice(wish, "as asked")


def choose(
    wish: Wish, sample: Sample, task: Task, timer: Timer | None = None, stored: Stored | None = None
) -> Choice:
    """Choose a kernel: that of `wish`, with a basis, or for "auto" the one that takes least time.

    timer: seconds that a call takes; None: of this thread's CPU, the least of some turns. BLAS has one
    thread.  stored: forms that are there or can be; None: each search makes its own. Raises ConfigError: this
    machine's integer products are wrong, and integers were asked for.
    """
    if not len(sample.rows) or not len(sample.probes):
        return Choice("fp32", "nothing to try others on")
    spectrum, trial = Spectrum.of(sample.rows), _Trial(sample, task, timer or _cpu_s, stored)
    bases = [spectrum.leading(dims) for dims in _dims(spectrum, asked=wish != "auto")]
    with threadpool_limits(1):
        if wish != "auto":
            kernel_of(wish, bases[0])
            tried = trial.of_stored(wish) + trial.of(wish, bases)
            return _chosen(min(tried, key=_cost), [], spectrum, "as asked; ")
        known = trial.of("fp32") + trial.of("int8")
        plain = min(known, key=_ns)
        low = trial.of_stored("subspace-int8") + trial.of_stored("subspace")
        if min(map(_ns, low), default=plain.ns) >= _GAIN * plain.ns:
            low += trial.of("subspace", bases) + trial.of("subspace-int8", bases)
    best = min(low, key=_ns, default=plain)
    if best.ns < _GAIN * plain.ns:
        return _chosen(best, known, spectrum)
    return _chosen(plain, known, spectrum, "few dimensions would not help; " if known else "")


def timed(choice: Choice, sample: Sample, task: Task, timer: Timer | None = None) -> Choice:
    """Add the time of a trial to a choice made without one; unchanged where there can be none here."""
    if choice.name == "cuda" or not len(sample.rows) or not len(sample.probes):
        return choice
    with threadpool_limits(1):
        found = _Trial(sample, task, timer or _cpu_s, None).of(choice.name, [choice.basis])
    return replace(choice, ns=found[0].ns) if found else choice


class _Trial:
    """Times of kernels at the limits that a search will have halfway."""

    def __init__(self, sample: Sample, task: Task, timer: Timer, stored: Stored | None) -> None:
        self._rows, self._probes, self._timer = spread(sample.rows, _TILE), sample.probes, timer
        self._task, self._limits, self._stored = task, _limits(sample, task), stored

    def of(self, name: Name, bases: Iterable[Basis | None] = (None,)) -> list[_Tried]:
        """The times of a kernel, with each basis; none where this machine does not offer it."""
        new = self._stored is not None and self._stored.basis is None
        tried = []
        for basis in bases:
            try:
                kernel = kernel_of(name, basis)
            except FrpipeError:
                continue
            searches = _SEARCHES if new and basis is not None else 1
            tried.append(_Tried(name, self._ns(kernel, 1 / searches), basis))
        return tried

    def of_stored(self, name: Name) -> list[_Tried]:
        """The time of a kernel with forms that are stored; none where there are none."""
        stored = self._stored
        if stored is None or stored.basis is None:
            return []
        try:
            kernel = kernel_of(name, stored.basis)
        except FrpipeError:
            return []
        share = stored.lacking.get(name, 1) / _SEARCHES
        return [_Tried(name, self._ns(kernel, share), stored.basis, stored=True)]

    def _ns(self, kernel: Kernel, share: float) -> float:
        """Nanoseconds a pair, with what it takes to bring a row into the kernel's form.

        share: of that, how much is to the account of this search.
        """
        probes, tile = kernel.probes(self._probes), kernel.tile(self._rows)
        scan_s = self._timer(lambda: kernel.hits(probes, tile, self._limits))
        form_s = self._timer(lambda: kernel.tile(self._rows))
        pairs = len(self._rows) * len(self._probes)
        return 1e9 * (scan_s / pairs + share * form_s / (len(self._rows) * max(1, self._task.uses)))


def _limits(sample: Sample, task: Task) -> Floats:
    """Similarities, (m,), that a candidate will have to reach."""
    limits = np.full(len(sample.probes), task.at_least, np.float32)
    if task.k is not None:
        scores = Blas().scores(sample.probes, np.nan_to_num(sample.rows))
        place = min(len(scores), max(1, round(_HALFWAY * task.k * len(scores) / max(1, task.rows))))
        limits = np.maximum(limits, np.partition(scores, -place, axis=0)[-place])
    return limits


def _dims(spectrum: Spectrum, *, asked: bool) -> list[int]:
    """Sizes of bases to try, ascending. asked: at least one."""
    dim, found = len(spectrum.energy), []
    for dims in range(_STEP - 1, int(dim * _MOST_DIMS) + 1, _STEP):
        if spectrum.held(dims) >= _LEAST_HELD:
            found.append(dims)
        if spectrum.held(dims) >= _ALL_HELD:
            break
    return found or ([max(1, int(dim * _MOST_DIMS))] if asked else [])


def _chosen(best: _Tried, others: list[_Tried], spectrum: Spectrum, remark: str = "") -> Choice:
    times = ", ".join(f"{each.name} {each.ns:.1f}" for each in others if each is not best)
    parts = [f"{best.ns:.1f} ns a comparison on a sample here{f' ({times})' if times else ''}"]
    if best.basis is not None:
        held = 100 * spectrum.held(best.basis.dims)
        parts.insert(0, f"{best.basis.dims} of {best.basis.dim} dimensions hold {held:.1f} % of the energy")
        parts += ["its forms are stored with the gallery"] if best.stored else []
    return Choice(best.name, remark + "; ".join([*parts, _machine()]), best.basis, best.ns, best.stored)


def _machine() -> str:
    from frpipe.matching.integers import Integers  # noqa: PLC0415 - loads ONNX Runtime

    try:
        return "VNNI" if Integers().has_vnni else "no VNNI: integers of seven bits"
    except FrpipeError:
        return "no integer products that are right"


def _ns(tried: _Tried) -> float:
    return tried.ns


def _cost(tried: _Tried) -> float:
    return tried.ns * (_PREFERRED if tried.stored else 1)


def _cpu_s(work: Callable[[], Any]) -> float:
    """CPU seconds of this thread, which other work on the machine disturbs least."""
    least = float("inf")
    for _ in range(_TURNS):
        begin = time.thread_time()
        work()
        least = min(least, time.thread_time() - begin)
    return least


def spread(vectors: Floats, count: int) -> Floats:
    """Choose at most `count` of (n, dim) vectors, evenly spread."""
    return vectors if len(vectors) <= count else vectors[np.linspace(0, len(vectors) - 1, count).astype(int)]
