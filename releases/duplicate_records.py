"""The evidence of each duplicate that is removed, as `duplicates.jsonl` and the report hold it."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from progdata.builders.schema import problem_id
from progdata.verifiers.duplicates import Ints, Removal
from progdata.verifiers.near_duplicates import Link, Near, links_to
from progdata.verifiers.problem_forms import normal_form

TEXT_CHARS = 2_000
"""Characters of a problem that a record shows; file and row name the rest."""

SHOWN = 3
"""Removals by each rule that the report itself shows."""


_SAME = Link(1.0, -1, 1.0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands, its trace's or problem's id, the index of its problem, and its gold."""

    file: str
    row: int
    id: str
    problem: int
    answer: str | None

    def as_dict(self) -> dict[str, Any]:
        return {"file": self.file, "row": self.row, "id": self.id, "answer": self.answer}


def record_removals(
    removals: Sequence[Removal],
    places: Sequence[Place],
    problems: Sequence[str],
    exact: Ints,
    near: Near | None,
    threshold: float,
) -> list[dict[str, Any]]:
    """A record of each removal, in order.

    `score` is 1 where problems or traces are equal, and else the cosine of both problems; where
    that is not over the threshold, `through` is the problem that is near to the removed one and
    nearer to the one that stays. `answers_differ` where both rows have golds that are not written
    alike: one of them may be wrong.
    """
    links = _links(removals, places, exact, near, threshold) if near else {}
    records = []
    for removal in removals:
        gone, stays = places[removal.row], places[removal.kept]
        link = links.get((int(exact[gone.problem]), removal.cluster), _SAME)
        chained = link is not _SAME and link.through != exact[stays.problem]
        records.append(
            {
                "cluster": removal.cluster,
                "rule": removal.rule,
                "score": round(link.score, 4),
                "removed": gone.as_dict(),
                "kept": stays.as_dict(),
                "answers_differ": _differ(gone.answer, stays.answer),
                "removed_text": problems[gone.problem][:TEXT_CHARS],
                "kept_text": problems[stays.problem][:TEXT_CHARS],
                "through": _through(link, problems) if chained else None,
            }
        )
    return records


def count_records(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the report says of the records: how many by rule, and the first of each."""
    by_rule = Counter(record["rule"] for record in records)
    shown: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if len(shown[record["rule"]]) < SHOWN:
            shown[record["rule"]].append(record)
    sizes = Counter(record["cluster"] for record in records)
    return {
        "clusters": len(sizes),
        "largest_cluster": max(sizes.values(), default=-1) + 1,
        "by_rule": dict(sorted(by_rule.items())),
        "answers_differ": sum(record["answers_differ"] for record in records),
        "examples": [record for rule in sorted(shown) for record in shown[rule]],
    }


def _links(
    removals: Sequence[Removal], places: Sequence[Place], exact: Ints, near: Near, threshold: float
) -> dict[tuple[int, str], Link]:
    """The links of the problems that were found near, by normal form and cluster."""
    keepers = {
        removal.cluster: int(exact[places[removal.kept].problem])
        for removal in removals
        if removal.rule == "near"
    }
    members: dict[str, set[int]] = defaultdict(set)
    for removal in removals:
        if removal.rule == "near":
            members[removal.cluster].add(int(exact[places[removal.row].problem]))
    found = {}
    for cluster, keeper in keepers.items():
        forms = sorted(members[cluster] | {keeper})
        vectors = np.stack([near.vectors[form] for form in forms])
        for form, link in zip(
            forms, links_to(forms.index(keeper), vectors, threshold), strict=True
        ):
            if form != keeper:
                found[form, cluster] = Link(link.score, forms[link.through], link.through_score)
    return found


def _through(link: Link, problems: Sequence[str]) -> dict[str, Any]:
    text = problems[link.through]
    return {
        "id": problem_id(text),
        "score": round(link.through_score, 4),
        "text": text[:TEXT_CHARS],
    }


def _differ(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return False
    return normal_form(f"${one}$") != normal_form(f"${other}$")
