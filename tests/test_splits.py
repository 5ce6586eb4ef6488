from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import TOKENIZER, TRACES, needs_shared_data

from progdata.builders.schema import problem_id
from progdata.builders.splits import OOD_TOKENS, SPLITS, SplitRule, assign_splits
from progdata.releases.build import build
from progdata.releases.check import check
from progdata.releases.recipe import Recipe

rules = st.builds(
    SplitRule, st.floats(0, 0.99), st.integers(1, 40), st.sampled_from(["reject", "ood"])
)
traces = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), max_size=40)


def raw_ids(problems: list[str]) -> np.ndarray:
    joined = bytes.fromhex("".join(problem_id(problem) for problem in problems))
    return np.frombuffer(joined, dtype="S16")


def split_names(
    problems: list[str], tokens: list[int], rule: SplitRule
) -> tuple[list[str], list[bool]]:
    split, refused = assign_splits(raw_ids(problems), np.array(tokens, dtype=np.int64), rule)
    return [SPLITS[number] for number in split.tolist()], refused.tolist()


@given(traces=traces, rule=rules)
def test_no_problem_stands_in_two_splits(traces, rule):
    problems = [f"problem {number}" for number, _ in traces]
    splits, refused = split_names(problems, [tokens for _, tokens in traces], rule)
    of_problem = defaultdict(set)
    for problem, split, out in zip(problems, splits, refused, strict=True):
        if not out:
            of_problem[problem].add(split)
    assert all(len(own) == 1 for own in of_problem.values())


@given(traces=traces, rule=rules)
def test_a_problem_with_a_long_trace_belongs_to_ood_and_its_short_traces_follow(traces, rule):
    problems = [f"problem {number}" for number, _ in traces]
    splits, refused = split_names(problems, [tokens for _, tokens in traces], rule)
    for (number, tokens), split, out in zip(traces, splits, refused, strict=True):
        long = tokens > rule.ood_tokens
        has_long = any(own == number and count > rule.ood_tokens for own, count in traces)
        assert (split == "ood") == has_long
        assert out == (rule.ood_siblings == "reject" and has_long and not long)


@given(traces=traces, rule=rules)
def test_a_split_depends_on_the_problem_and_not_on_the_other_problems(traces, rule):
    problems = [f"problem {number}" for number, _ in traces]
    tokens = [count for _, count in traces]
    splits, _ = split_names(problems, tokens, rule)
    for problem in set(problems):
        mine = [index for index, own in enumerate(problems) if own == problem]
        alone, _ = split_names([problem] * len(mine), [tokens[i] for i in mine], rule)
        assert alone == [splits[i] for i in mine]


@given(problem=st.text(), share=st.floats(0, 0.99))
def test_the_split_is_read_off_the_problem_id(problem, share):
    """For everybody alike and for ever: its first 32 bits as a share of the unit interval."""
    (split,), _ = split_names([problem], [1], SplitRule(share))
    expected = int(problem_id(problem)[:8], 16) / 2**32 < share
    assert split == ("validation" if expected else "train")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2, 0.5])
def test_validation_holds_its_share_of_the_problems(share):
    problems = [f"problem {number}" for number in range(20_000)]
    splits, _ = split_names(problems, [100] * len(problems), SplitRule(share))
    found = splits.count("validation") / len(problems)
    deviation = (share * (1 - share) / len(problems)) ** 0.5
    assert abs(found - share) <= 4 * deviation


def test_a_larger_share_keeps_what_validation_held():
    problems = [f"problem {number}" for number in range(2_000)]
    small, large = (
        split_names(problems, [1] * len(problems), SplitRule(share))[0] for share in (0.05, 0.1)
    )
    assert all(b == "validation" for a, b in zip(small, large, strict=True) if a == "validation")


def test_ood_is_more_than_16k_tokens():
    rule = SplitRule()
    assert rule.ood_tokens == OOD_TOKENS == 16_384
    splits, _ = split_names(["a", "b"], [16_384, 16_385], rule)
    assert splits[0] != "ood"
    assert splits[1] == "ood"


def test_no_trace_is_no_split():
    assert split_names([], [], SplitRule()) == ([], [])


@needs_shared_data
@pytest.mark.slow
@pytest.mark.parametrize("siblings", ["reject", "ood"])
def test_real_samples_of_one_problem_stay_together(siblings, tmp_path):
    """Several samples a problem, some over 16K tokens: the policy says what their siblings do."""
    recipe = Recipe.model_validate(
        {
            "sources": str(TRACES / "r1_14b_aime_samples.jsonl.gz"),
            "tokenizer": str(TOKENIZER),
            "splits": {"ood_siblings": siblings, "validation": 0.3},
        }
    )
    report = build(recipe, tmp_path / "out")
    assert check(tmp_path / "out") == []
    rows = [
        row
        for path in (tmp_path / "out" / "data" / "clean").glob("*.parquet")
        for row in pq.read_table(path, columns=["problem_id", "split", "num_tokens"]).to_pylist()
    ]
    of_problem = defaultdict(set)
    for row in rows:
        of_problem[row["problem_id"]].add(row["split"])
    assert all(len(own) == 1 for own in of_problem.values())
    short_in_ood = [
        row for row in rows if row["split"] == "ood" and row["num_tokens"] <= OOD_TOKENS
    ]
    refused = report["rejected"].get("splits", {}).get("problem_in_ood", 0)
    assert report["splits"]["ood"] > 0
    assert (bool(short_in_ood), refused > 0) == (siblings == "ood", siblings == "reject")
    assert not [r for r in rows if r["split"] != "ood" and r["num_tokens"] > OOD_TOKENS]
