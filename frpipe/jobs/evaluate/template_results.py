"""Compare and search templates, as trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from frpipe.core.config import canonical_hash
from frpipe.core.counted import counted
from frpipe.core.distinct import distinct, without
from frpipe.core.errors import ConfigError
from frpipe.core.reasons import Status
from frpipe.evaluation.pairs import Labels, Mask
from frpipe.evaluation.searches import SearchTrials
from frpipe.jobs.evaluate.pair_results import PairColumns, PairResults, pair_trials
from frpipe.jobs.evaluate.photo_facts import PhotoFacts
from frpipe.jobs.evaluate.search_results import SearchResults
from frpipe.jobs.evaluate.template_list import TEMPLATE, TemplateList, digest_of, read_columns
from frpipe.jobs.features import FeatureRun
from frpipe.jobs.verify.schema import STATUSES, A, B
from frpipe.matching.exact import inner_products
from frpipe.matching.pooling import Indices
from frpipe.matching.topk import TopK

MATED, FOLD = "mated", "fold"
_HASHES = ("embedder_hash", "preprocessing_hash")


@dataclass(frozen=True)
class PooledTemplates:
    """Pooled templates. vectors: (t, dim) float32.  present: (t,).  people: (t,) ids; "": unknown."""

    listed: TemplateList
    source: FeatureRun
    vectors: Any
    present: Mask
    people: Labels
    policy: str

    @classmethod
    def of(cls, listed: TemplateList, source: FeatureRun, policy: str) -> PooledTemplates:
        """Pool templates.

        policy: which face of a photo counts. Who a template is of is as the list says, else the photos.
        """
        people = listed.subjects
        if (people == "").any():
            own = PhotoFacts.of(source.folder.uri).of_photos("subject_id", np.array(listed.image, object))
            people = people.copy()
            first = dict(zip(listed.template[::-1].tolist(), own[::-1].tolist(), strict=True))
            for number in np.flatnonzero(people == ""):
                people[number] = first.get(int(number), "")
        return cls(listed, source, *listed.pooled(source, policy), people, policy)

    def compared(self, uri: str) -> PairResults:
        """Compare the pairs of a list of templates, with columns a and b, mated where it is there, and fold.

        Raises ManifestError: the list; ConfigError: nothing says which pairs are mated.
        """
        rows, columns = read_columns(uri, "list of pairs", (A, B), (MATED, FOLD))
        a, b = (self.listed.numbers(columns[side], "list of pairs") for side in (A, B))
        both = self.present[a] & self.present[b]
        similarity = np.full(len(a), np.nan)
        products = inner_products(self.vectors, a[both], self.vectors, b[both])
        similarity[both] = np.clip(products, -1, 1)
        table = {
            A: columns[A],
            B: columns[B],
            "similarity": pa.array(similarity, mask=~both),
            "status": pa.array(STATUSES).take(pa.array(~self.present[a] + 2 * ~self.present[b])),
            **{f"reason_{side}": self._reasons(of) for side, of in (("a", a), ("b", b))},
            "subject_a": pa.array(self.people[a], pa.string()),
            "subject_b": pa.array(self.people[b], pa.string()),
            **{name: columns[name] for name in (MATED, FOLD) if any(columns[name])},
        }
        trials, warnings = pair_trials(pa.table(table), PairColumns())
        digest, facts = self._known({"pairs": digest_of(rows)})
        return PairResults(uri, trials, None, self.source.folder.uri, digest, facts, self._remarks(warnings))

    def searched(self, gallery: str, probes: str, k: int) -> SearchResults:
        """Search the templates of one list in those of another; a person counts by their best template.

        Raises ManifestError: the lists; ConfigError: it is not known who one is.
        """
        lists = [
            read_columns(uri, f"list of {name}", (TEMPLATE,))
            for name, uri in (("gallery", gallery), ("probes", probes))
        ]
        enrolled, asked = (
            self.listed.numbers(columns[TEMPLATE], f"list of {name}")
            for name, (_, columns) in zip(("gallery", "probes"), lists, strict=True)
        )
        if (self.people[enrolled] == "").any() or (self.people[asked] == "").any():
            raise ConfigError(
                "of some templates it is not known who they are",
                "give the list of templates a column subject_id, or enroll with subject_id",
            )
        people = distinct(self.people[enrolled].astype(str))
        have = enrolled[self.present[enrolled]]
        found = distinct(self.people[have].astype(str))
        trials = self._trials(have, asked, found, without(people, found), k)
        digest, facts = self._known({name: digest_of(rows) for name, (rows, _) in
                                     zip(("gallery", "probes"), lists, strict=True)})  # fmt: skip
        listed = min(k, max(len(found), 1))
        return SearchResults(
            gallery, trials, None, listed, self.source.folder.uri, digest, facts, self._remarks([])
        )

    def _trials(self, have: Indices, asked: Indices, found: Labels, blank: Labels, k: int) -> SearchTrials:
        here = np.flatnonzero(self.present[asked])
        search = TopK(self.vectors[asked[here]], k)
        if len(have) and len(here):
            search.add(pa.array(self.people[have], pa.string()), self.vectors[have])
        ranking = search.result()
        return SearchTrials(
            np.array([self.listed.ids[number] for number in asked], object),
            self.people[asked],
            ~self.present[asked],
            here[ranking.probe],
            ranking.subject_id.to_numpy(zero_copy_only=False),
            ranking.similarity,
            found,
            blank,
        )

    def _reasons(self, numbers: Indices) -> pa.Array:
        return pa.array(
            [None if here else Status.NO_FACE.value for here in self.present[numbers]], pa.string()
        )

    def _known(self, lists: dict[str, str]) -> tuple[str, dict[str, Any]]:
        """The digests of all that was read, and what a report says of it."""
        spec = self.source.spec
        facts = {
            "templates": self.listed.digest,
            **lists,
            "features": self.source.digest,
            "feature_run": self.source.run_id,
            **{name: getattr(spec, name) for name in _HASHES},
            "faces": self.policy,
        }
        return canonical_hash(facts), facts

    def _remarks(self, warnings: list[str]) -> list[str]:
        lost = int(np.count_nonzero(~self.present))
        words = f"{counted(lost, 'templates have')} no photo with a face: their trials count as failures"
        return [*warnings, *([words] if lost else [])]
