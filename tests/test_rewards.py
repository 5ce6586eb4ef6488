"""The rewards of GRPO on completions whose value is known."""

import pytest
from build_folder import countdown
from hypothesis import given
from hypothesis import strategies as st
from shared_data import TOKENIZER, needs_shared_data, read_traces

from progdata.builders.markers import DEFAULT, MarkerGrammar, escape, find_markers, insert, strip
from progdata.builders.thinking import split_completion
from progdata.builders.tokenizer import WordsCounter, load_counter
from progdata.releases.build import build
from progdata.training_refs.rewards import (
    REWARDS,
    RewardSection,
    completion_texts,
    correctness,
    progress_accuracy,
    read_reports,
    report_frequency,
    trl_rewards,
    verl_score,
)
from progdata.training_refs.training_data import open_data

WORDS = WordsCounter()
MARKER_TOKENS = 10
"""Tokens of a marker with a label of two digits, for the built-in tokenizer."""


def mark(label: int, special: bool = False) -> str:
    return MarkerGrammar(special=special).render(label)


def accuracy(completion: str) -> float:
    return progress_accuracy(completion, tokens=WORDS)


def frequency(completion: str, every: int, penalty: float = 0.5) -> float:
    return report_frequency(completion, every_tokens=every, tokens=WORDS, outside_penalty=penalty)


PERFECT = f"<think>a b{mark(50)} c d{mark(100)}</think> \\boxed{{5}}"

ACCURACIES = {
    "perfect": (PERFECT, 1.0),
    "prefilled": (PERFECT.removeprefix("<think>"), 1.0),
    "special tokens": (f"<think>a b{mark(50, special=True)} c d</think>", 1.0),
    "no marker": ("<think>a b c d</think> e", 0.0),
    "half wrong": (f"<think>a b{mark(100)} c d{mark(100)}</think>", 0.75),
    "before anything": (f"<think>{mark(40)}a b c d</think>", 0.6),
    "over 100": (f"<think>a b{mark(120)} c d</think>", pytest.approx(0.3)),
    "under 0": (f"<think>a b{mark(-10)} c d</think>", pytest.approx(0.4)),
    "far over 100 is clipped": (f"<think>a b{mark(999_999_999)} c d</think>", 0.0),
    "unfinished": (PERFECT.partition("</think>")[0], 0.0),
    "only outside": (f"<think>a b</think> c{mark(100)}", 0.0),
    "outside counts not": (PERFECT + mark(0), 1.0),
    "no content": (f"<think>{mark(50)}</think> a", 0.0),
    "empty": ("", 0.0),
    "thinks twice": (PERFECT + PERFECT, 0.0),
    "lone surrogate": (PERFECT.replace("a b", "\ud800 b"), 1.0),
    "not a label": (PERFECT.replace("50%", "half"), pytest.approx(1.0)),
}


@pytest.mark.parametrize("name", ACCURACIES)
def test_progress_accuracy(name):
    completion, expected = ACCURACIES[name]
    assert accuracy(completion) == expected


def test_a_malformed_marker_is_content_that_counts_as_thinking():
    """`<progressbar>x%</progressbar>` is 9 tokens of content beside the two letters."""
    text = f"<think>a<progressbar>x%</progressbar>b{mark(50)} c</think>"
    assert read_reports(text, WORDS).truths == [11 / 12]


def regular(every: int, markers: int, begin: str = "<think>") -> str:
    """Markers exactly so many tokens apart."""
    return begin + (" a" * (every - MARKER_TOKENS) + mark(50)) * markers


FREQUENCIES = {
    "exact": (regular(15, 4), 15, 1.0),
    "exact and finished": (regular(15, 4) + "</think> b", 15, 1.0),
    "prefilled": (regular(15, 4, begin=""), 15, 1.0),
    "nothing between": (f"<think>{mark(10)}{mark(20)}", MARKER_TOKENS, 1.0),
    "20% too far apart": (regular(18, 3), 15, pytest.approx(0.8)),
    "20% too near": (regular(12, 3), 15, pytest.approx(0.8)),
    "three times too far": (regular(45, 3), 15, 0.0),
    "one exact, one double": (
        f"<think>{mark(10)} a a a a a{mark(20)}" + " a" * 20 + mark(30),
        15,
        0.5,
    ),
    "no marker": ("<think>a</think>", 15, 0.0),
    "one marker": (f"<think>a{mark(50)}</think>", 15, 0.0),
    "one outside": (regular(15, 4) + f"</think>{mark(99)}", 15, 0.5),
    "three outside": ("<think>a</think>" + 3 * mark(99), 15, -1.5),
    "all outside, thinks twice": (f"<think>a</think>{mark(9)}</think>", 15, -0.5),
    "malformed outside": ("<think>a</think><progressbar>x</progressbar>", 15, 0.0),
    "empty": ("", 15, 0.0),
}


@pytest.mark.parametrize("name", FREQUENCIES)
def test_report_frequency(name):
    completion, every, expected = FREQUENCIES[name]
    assert frequency(completion, every) == expected


def test_the_penalty_is_what_the_recipe_says():
    outside = regular(15, 4) + "</think>" + 2 * mark(99)
    assert [frequency(outside, 15, penalty) for penalty in (0, 0.25, 1)] == [1.0, 0.5, -1.0]


PIECES = st.sampled_from(
    ["a", " b ", "7", "\n", "é", "", "<think>", "</think>", "<progressbar>", "5%", "\ud800"]
) | st.integers(-5, 130).map(mark)


@given(st.lists(PIECES, max_size=12).map("".join), st.integers(1, 40))
def test_no_completion_is_refused_and_rewards_keep_their_ranges(completion, every):
    assert 0 <= accuracy(completion) <= 1
    outside = read_reports(completion, WORDS).outside
    assert -0.5 * outside <= frequency(completion, every) <= 1 - 0.5 * outside


@given(
    st.text("ab 1\n.é", min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 100)), max_size=6),
)
def test_truth_and_positions_are_those_of_a_slow_reference(think, marks):
    """Each marker asked for itself, by counting what stands before it."""
    ends = sorted(min(end, len(think)) for end, _ in marks)
    marked = insert(think, ends, [label for _, label in marks], DEFAULT)
    completion = f"<think>{marked}</think> c"
    reports = read_reports(completion, WORDS)

    def count(text: str) -> int:
        return int(WORDS.starts([text]).per_text()[0])

    found = find_markers(completion)
    assert reports.positions == [count(completion[: own.start]) for own in found]
    if count(think):
        assert reports.truths == [count(think[:end]) / count(think) for end in ends]
    else:
        assert reports.truths is None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("rewards") / "build"
    build(countdown(30, ["clean", "special"]), out)
    return out


@pytest.mark.parametrize("variant", ["clean", "special"])
def test_the_clean_rows_of_a_build_are_as_accurate_as_rounding_allows(built, variant):
    data = open_data(str(built), variant, None, splits=["train"])
    rows = data.rows("train")
    for row in rows.to_pylist():
        own = read_reports(row["completion"], WORDS, data.grammar)
        assert own.truths == pytest.approx(row["progress"], abs=1e-6)
        assert progress_accuracy(row["completion"], tokens=WORDS) >= 0.995
    expected = [float(own == "correct") for own in rows["verdict"].to_pylist()]
    found = correctness(rows["completion"].to_pylist(), rows["answer"].to_pylist(), workers=1)
    assert found == expected and {0.0, 1.0} >= set(found) and 1.0 in found


@needs_shared_data
def test_tokens_are_those_of_the_models_own_tokenizer():
    """Markers put at every 200 tokens of a real trace are worth 1, by that tokenizer only."""
    counter = load_counter(str(TOKENIZER / "tokenizer.json"), False)
    trace = next(read_traces("r1_14b_aime_samples.jsonl.gz"))
    think = split_completion(trace["completion"]).think[:6_000]
    starts = counter.starts([think]).of_text(0)
    cuts = [int(starts[at]) for at in range(200, len(starts), 200)]
    ends = [len(think.encode()[:cut].decode(errors="ignore")) for cut in cuts]
    marked = "<think>" + insert(think, ends, [10] * len(ends), DEFAULT) + "</think>"
    own = counter.starts([mark(10)]).per_text()[0]
    options = {"every_tokens": 200 + int(own), "outside_penalty": 0.5}
    assert report_frequency(marked, tokens=counter, **options) > 0.99
    assert report_frequency(marked, tokens=WORDS, **options) < 0.95


VERDICTS = {
    "correct": ("<think>a</think> \\boxed{5}", "5", 1.0),
    "same number": ("<think>a</think> \\boxed{\\frac{10}{2}}", "5", 1.0),
    "wrong": ("<think>a</think> \\boxed{6}", "5", 0.0),
    "no answer": ("<think>a</think> hm", "5", 0.0),
    "unfinished": ("<think>a \\boxed{5}", "5", 0.0),
    "no gold": ("<think>a</think> \\boxed{5}", None, None),
    "blank gold": ("<think>a</think> \\boxed{5}", " ", None),
    "gold in prose": ("<think>a</think> b", "The mean is larger since one value is large", None),
    "a marker is no answer": (f"<think>a</think> {mark(37)}", "37\\%", 0.0),
    "a marker in the answer": (f"<think>a</think> \\boxed{{5{mark(99)}}}", "5", 1.0),
    "a marker after the answer": (f"<think>a</think> \\boxed{{5}} {mark(99)}", "5", 1.0),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_correctness(name):
    completion, gold, expected = VERDICTS[name]
    assert correctness([completion], [gold], workers=1) == [expected]


def test_a_batch_keeps_its_order_around_what_cannot_be_graded():
    rows = list(VERDICTS.values())
    found = correctness([own[0] for own in rows], [own[1] for own in rows], workers=1)
    assert found == [own[2] for own in rows]


def test_trl_calls_them_with_messages_or_with_plain_texts():
    rules = RewardSection(every_tokens=13)
    functions = trl_rewards(rules, WORDS, workers=1)
    assert tuple(own.__name__ for own in functions) == REWARDS
    texts = [PERFECT, "<think>a</think> \\boxed{6}"]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    for completions in (texts, chats):
        found = [
            own(
                prompts=["p", "p"],
                completions=completions,
                completion_ids=[[1], [2]],
                answer=["5", None],
                problem_id=["x", "y"],
                trainer_state=None,
            )
            for own in functions
        ]
        spacing = MARKER_TOKENS + 2
        assert found == [[1.0, 0.0], [pytest.approx(1 - (13 - spacing) / 13), 0.0], [1.0, None]]
    assert completion_texts(chats) == texts


def test_verl_calls_them_with_one_solution():
    rules = RewardSection(
        progress_accuracy=2, report_frequency=10, correctness=0.5, every_tokens=12
    )
    score = verl_score(rules, WORDS)
    found = score("countdown", PERFECT, "5", {"index": 3})
    assert found == {
        "score": 12.5, "progress_accuracy": 1.0, "report_frequency": 1.0, "correctness": 1.0
    }  # fmt: skip
    assert score("countdown", strip(PERFECT), "6")["score"] == 0.0


def test_escaped_text_counts_as_it_was():
    """A backslash before a tag in the text is none of the trace's tokens, as in `progdata eval`."""
    grammar = MarkerGrammar(escaped=True)
    quoted = "write <progressbar>5%</progressbar> twice: <progressbar>"
    completion = f"<think>{escape(quoted, grammar)}{mark(50)} end</think>"
    (found,) = read_reports(completion, WORDS, grammar).truths or []
    before, whole = (int(WORDS.starts([own]).per_text()[0]) for own in (quoted, f"{quoted} end"))
    assert found == before / whole
    unescaped = read_reports(completion, WORDS).truths
    assert unescaped is not None and unescaped[-1] != found
