"""What generation costs beside the engine: progdata's vLLM path against a bare `LLM.generate`.

    python benchmarks/generate.py [--requests 256] [--tokens 128] [--rounds 5]
    python benchmarks/generate.py --rollouts 500 20 20

Both engines are loaded in this process and take turns on the same token ids with the same sampling
parameters, and on a CPU neither reads prompts in chunks; ours keeps every sample in its store. The
model is as small as one can be (two layers, a vocabulary of 300), so that the engine's own work is
least and ours weighs most. `--rollouts` asks an engine that answers at once for traces x prefixes x
rollouts: all that is left is ours.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from tiny_model import make_small_model

from progdata.builders.ask import LazyEngine, ask
from progdata.builders.base_table import SegmenterSettings
from progdata.builders.chat_template import load_chat_template
from progdata.builders.prompts import find_profile
from progdata.builders.sample_store import SampleStore
from progdata.builders.sampling import Asker, Outcomes, Request, Sample, SamplingSettings
from progdata.builders.vllm_engine import VllmEngine, VllmOptions, whole_prompts
from progdata.releases.rolled_out import RolloutSettings, roll_out

CONTEXT = 1_024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rollouts", type=int, nargs=3, metavar=("TRACES", "PREFIXES", "N"))
    given = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    with tempfile.TemporaryDirectory() as folder:
        model = make_small_model(Path(folder) / "model")
        if given.rollouts:
            measure_rollouts(model, Path(folder), *given.rollouts)
        else:
            measure_sampling(model, Path(folder), given.requests, given.tokens, given.rounds)


def measure_sampling(model: Path, folder: Path, count: int, tokens: int, rounds: int) -> None:
    """Tokens a second of both, in turns, and the ratio of each turn."""
    log = folder / "engine.log"
    options = VllmOptions(dtype="float32", enforce_eager=True, max_model_len=CONTEXT)
    settings = SamplingSettings(max_tokens=tokens)
    template = load_chat_template(model)
    prompts = [template.prompt([("user", f"What is {n} + {n}?")]) for n in range(count)]
    ratios: list[float] = []
    with VllmEngine(model, options, log) as engine:
        bare = load_bare(model, log)
        for number in range(rounds + 1):
            asker = Asker("small", "", "vllm", settings, seed=number)
            requests = [own for prompt in prompts for own in asker.requests(prompt, [0])]
            if number % 2:
                theirs = run_bare(bare, requests)
                ours = run_ours(engine, requests, folder / f"store-{number}")
            else:  # in turns, so that neither always comes second
                ours = run_ours(engine, requests, folder / f"store-{number}")
                theirs = run_bare(bare, requests)
            if number:  # the first turn warms both up
                ratios.append(ours / theirs)
                print(f"bare {theirs:8,.0f} tokens/s   ours {ours:8,.0f}   {ours / theirs:.3f}")
    print(f"median of {rounds}: {statistics.median(ratios):.3f} of a bare LLM.generate")


def load_bare(model: Path, log: Path) -> Any:
    from vllm import LLM

    from progdata.builders.engine_log import printed_to

    with printed_to(log):
        return LLM(
            str(model),
            dtype="float32",
            enforce_eager=True,
            max_model_len=CONTEXT,
            **whole_prompts(),
        )


def run_bare(llm: Any, requests: list[Request]) -> float:
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": list(own.prompt.token_ids or ())} for own in requests]
    parameters = [
        SamplingParams(
            temperature=own.settings.temperature,
            top_p=own.settings.top_p,
            max_tokens=own.settings.max_tokens,
            seed=own.seed,
            skip_special_tokens=False,
        )
        for own in requests
    ]
    begun = time.perf_counter()
    written = llm.generate(prompts, parameters, use_tqdm=False)
    spent = time.perf_counter() - begun
    return sum(len(own.outputs[0].token_ids) for own in written) / spent


def run_ours(engine: VllmEngine, requests: list[Request], folder: Path) -> float:
    tokens = 0

    def watch(outcomes: Outcomes) -> None:
        nonlocal tokens
        tokens += sum(own.completion_tokens for _, own in outcomes if isinstance(own, Sample))

    with SampleStore(folder) as store:
        begun = time.perf_counter()
        lazy = LazyEngine(lambda: engine)
        failures = ask(lazy, requests, store, watch)
        spent = time.perf_counter() - begun
    assert not failures
    return tokens / spent


class Instant:
    """An engine that answers at once."""

    family, version, context = "vllm", "instant", None

    def __enter__(self) -> "Instant":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def run(self, requests: Iterable[Request]) -> Generator[Outcomes]:
        for own in requests:
            prompt = len(own.prompt.token_ids or ())
            yield [(own, Sample(" 42 }", "stop", prompt, 4, 0.0, self.version))]


def measure_rollouts(model: Path, folder: Path, traces: int, prefixes: int, n: int) -> None:
    """Seconds and peak memory for so many rollouts, and for a rerun that finds them all."""
    import progdata.releases.rolled_out as rolled_out

    rolled_out.open_engine = lambda *_: Instant()  # type: ignore[assignment]
    settings = RolloutSettings(
        f"countdown:{traces}",
        find_profile("deepscaler"),
        prefixes=prefixes,
        n=n,
        segmenter=SegmenterSettings("tokens", tokens=32),
        model=str(model),
        verify=False,
    )
    for name in ("first run", "rerun"):
        begun = time.perf_counter()
        report = roll_out(settings, folder / "out")
        spent = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name}: {report['rollouts']:,} rollouts of {report['prefixes']:,} prefixes, "
            f"{report['cost']['prompt_tokens']:,} prompt tokens, {spent:.1f} s, peak {peak:,.0f} MB"
        )


if __name__ == "__main__":
    main()
