"""The command line: one thin function a command. It parses options, calls one function, prints.

Nothing heavy is imported here, so that `progdata --help` answers at once.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from progdata import __version__
from progdata.builders.errors import ProgdataError
from progdata.builders.model_files import DEFAULT_MODEL
from progdata.builders.redaction import redact
from progdata.cards.markdown_text import visible
from progdata.verifiers.pool import CPU_SECONDS, MEMORY_MB

app = typer.Typer(
    help="Construct, prove and publish progress-prediction datasets for reasoning models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

INTERRUPTED = 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        help="countdown:N, a path or glob of .jsonl, .jsonl.gz, .parquet, or "
        "hf:org/name[:config][@revision][#split]. May be repeated.",
        metavar="SPEC",
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        help="words (built in), a tokenizer.json, its folder, or a hub id org/name[@revision].",
        metavar="SPEC",
    ),
]
Segmenter = Annotated[
    str | None,
    typer.Option(help="newline, episodes, tokens:K, sat or sat:MODEL.", metavar="NAME"),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Grading processes.", metavar="N")]
CpuSeconds = Annotated[
    float, typer.Option(min=0.01, help="CPU time that one answer may take.", metavar="S")
]
MemoryMb = Annotated[
    int, typer.Option("--memory-mb", min=1, help="Memory that one answer may take.", metavar="M")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Read this many rows.", metavar="N")]
Model = Annotated[
    str,
    typer.Option(
        help="A folder, a hub id org/name[@revision], or what a server calls it.", metavar="M"
    ),
]
Engine = Annotated[str, typer.Option(help="vllm, openai or transformers.", metavar="NAME")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0: the likeliest token.", metavar="T")]
TopP = Annotated[float, typer.Option(min=1e-6, max=1.0, metavar="P")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Of a completion.", metavar="N")]
Profile = Annotated[
    str,
    typer.Option(help="The prompt: deepscaler, openr1, r1-plain or a .yaml file.", metavar="NAME"),
]
ServerTokenizer = Annotated[
    str | None,
    typer.Option(
        help="openai: the model's tokenizer, to send prompts as token ids.", metavar="SPEC"
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="openai: which weights the server has.", metavar="TEXT")
]
BaseUrl = Annotated[
    str | None, typer.Option(help="openai: the server, or OPENAI_BASE_URL.", metavar="URL")
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="vllm, openai: requests in flight.", metavar="N")
]
Retries = Annotated[int | None, typer.Option(min=0, help="openai: of a request.", metavar="N")]
Timeout = Annotated[
    float | None, typer.Option(min=0.1, help="openai: seconds without a byte.", metavar="S")
]
TensorParallel = Annotated[
    int | None, typer.Option(min=1, help="vllm: GPUs of a replica.", metavar="N")
]
DataParallel = Annotated[int | None, typer.Option(min=1, help="vllm: replicas.", metavar="N")]
Dtype = Annotated[
    str | None, typer.Option(help="vllm, transformers: auto, bfloat16, ...", metavar="NAME")
]
MaxModelLen = Annotated[
    int | None, typer.Option(min=1, help="Tokens of prompt and completion.", metavar="N")
]
GpuMemory = Annotated[
    float | None,
    typer.Option(min=0.01, max=1.0, help="vllm: share of the GPU's memory.", metavar="X"),
]
EnforceEager = Annotated[
    bool | None, typer.Option("--enforce-eager", help="vllm: no CUDA graphs.", show_default=False)
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="transformers: samples at a time.", metavar="N")
]
Device = Annotated[str | None, typer.Option(help="transformers: cuda, cpu, ...", metavar="NAME")]
From = Annotated[
    str, typer.Option("--from", help="hub, or the folder of a local registry.", metavar="WHERE")
]
Seed = Annotated[int | None, typer.Option(help="Of noise, masks and countdown.", metavar="N")]


def _show_version(value: bool) -> None:
    if value:
        print(f"progdata {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    if debug:
        os.environ["PROGDATA_DEBUG"] = "1"


@app.command(epilog="Example: progdata build --variant noisy --out my-dataset")
def build(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A YAML file, the name of a shipped recipe, or a build's lock file."),
    ] = None,
    source: Sources = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="clean, noisy, masked, special, masked-special, or all. May be repeated.",
            metavar="NAME",
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    segmenter: Segmenter = None,
    out: Annotated[Path, typer.Option(help="The folder to build in.")] = Path("progdata-out"),
    verify: Annotated[
        bool | None,
        typer.Option("--verify/--no-verify", help="Grade answers, where there is a gold."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="all, or the verdicts whose rows stay: correct, wrong, no_answer, "
            "gold_unparsable, timeout, error, ungraded. May be repeated.",
            metavar="VERDICT",
        ),
    ] = None,
    limit: Limit = None,
    seed: Seed = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.", metavar="N")] = 1,
    as_json: Json = False,
) -> None:
    """Build a progress dataset: segment, count, mark, prove.

    With no recipe and no source it builds 1,000 countdown traces with the built-in tokenizer.
    Options override the recipe. An interrupted build goes on when the same command runs again.
    """
    from progdata.releases.build import build as run
    from progdata.releases.lockfile import find_lock
    from progdata.releases.recipe import load_recipe

    chosen = load_recipe(
        recipe,
        sources=source,
        variants=variant,
        tokenizer=tokenizer,
        segmenter=segmenter,
        verify=_verify_options(verify, keep),
        limit=limit,
        seed=seed,
    )
    begun = time.monotonic()
    with _display() as display:
        report = run(chosen, out, workers=workers, display=display, rebuild=find_lock(recipe))
    seconds = round(time.monotonic() - begun, 3)
    if as_json:
        _print_json({"out": str(out), "seconds": seconds} | report)
    else:
        from progdata.cards.tables import build_summary

        print(build_summary(report, out, seconds))


@app.command(epilog="Example: progdata generate --problems problems.jsonl --n 8 --out samples")
def generate(
    problems: Annotated[
        list[str],
        typer.Option(
            help="As --source of build; needs no completions. May be repeated.", metavar="SPEC"
        ),
    ],
    model: Model = DEFAULT_MODEL,
    engine: Engine = "vllm",
    n: Annotated[int, typer.Option("--n", min=1, help="Samples of each problem.", metavar="N")] = 4,
    temperature: Temperature = 0.6,
    top_p: TopP = 0.95,
    max_tokens: MaxTokens = 16_384,
    profile: Profile = "deepscaler",
    out: Annotated[
        Path, typer.Option(help="The folder that keeps the samples and the traces.")
    ] = Path("progdata-samples"),
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Grade answers, where there is a gold.")
    ] = True,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the samples.", metavar="N")] = 0,
    tokenizer: ServerTokenizer = None,
    revision: Revision = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
    retries: Retries = None,
    timeout: Timeout = None,
    tensor_parallel_size: TensorParallel = None,
    data_parallel_size: DataParallel = None,
    dtype: Dtype = None,
    max_model_len: MaxModelLen = None,
    gpu_memory_utilization: GpuMemory = None,
    enforce_eager: EnforceEager = None,
    batch_size: BatchSize = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Sample traces from a model; what was sampled is never asked for again.

    Run the same command to go on after a kill, or with a larger --n or more problems to add.
    """
    from progdata.builders.prompts import find_profile
    from progdata.builders.sampling import SamplingSettings
    from progdata.cards.generate_tables import generate_summary
    from progdata.releases.generated import GenerateSettings
    from progdata.releases.generated import generate as run

    settings = GenerateSettings(
        problems=tuple(problems),
        profile=find_profile(profile),
        model=model,
        engine=_engine(engine),
        n=n,
        sampling=SamplingSettings(temperature, top_p, max_tokens),
        seed=seed,
        limit=limit,
        tokenizer=tokenizer,
        revision=revision,
        verify=verify,
        options=_engine_options(locals()),
    )
    with _display() as display:
        report = run(settings, out, display=display)
    print(generate_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata rollouts samples/traces.parquet --how stop --out values")
def rollouts(
    traces: Annotated[
        str,
        typer.Argument(help="As --source of build, or the folder of a build.", metavar="TRACES"),
    ],
    how: Annotated[
        str,
        typer.Option(
            help='continue; stop: MRT\'s "time is up" and an answer; close: </think> and an '
            'answer; wait: s1\'s "Wait".',
            metavar="HOW",
        ),
    ] = "stop",
    prefixes: Annotated[
        int | None,
        typer.Option(min=1, help="Of each trace, evenly spread; or --all-prefixes.", metavar="N"),
    ] = 20,
    all_prefixes: Annotated[
        bool, typer.Option("--all-prefixes", help="From the end of every segment.")
    ] = False,
    n: Annotated[
        int, typer.Option("--n", min=1, help="Rollouts of each prefix.", metavar="N")
    ] = 20,
    rounds: Annotated[
        int, typer.Option(min=1, help="wait: how often thinking is pushed on.", metavar="N")
    ] = 1,
    push: Annotated[
        str | None, typer.Option(help="Another text than that of --how.", metavar="TEXT")
    ] = None,
    model: Model = DEFAULT_MODEL,
    engine: Engine = "vllm",
    temperature: Annotated[
        float | None, typer.Option(min=0.0, help="0.6; for stop and close 0.7.", metavar="T")
    ] = None,
    top_p: TopP = 0.95,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Of a sample: 16,384; for stop and close 4,096.", metavar="N"),
    ] = None,
    profile: Profile = "deepscaler",
    segmenter: Segmenter = None,
    out: Annotated[
        Path, typer.Option(help="The folder that keeps the samples and the rollouts.")
    ] = Path("progdata-rollouts"),
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Grade answers, where there is a gold.")
    ] = True,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(help="Of the samples.", metavar="N")] = 0,
    tokenizer: ServerTokenizer = None,
    revision: Revision = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
    retries: Retries = None,
    timeout: Timeout = None,
    tensor_parallel_size: TensorParallel = None,
    data_parallel_size: DataParallel = None,
    dtype: Dtype = None,
    max_model_len: MaxModelLen = None,
    gpu_memory_utilization: GpuMemory = None,
    enforce_eager: EnforceEager = None,
    batch_size: BatchSize = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Let a model go on from prefixes of traces: value of a prefix, budget forcing.

    Kept and resumed as by generate. Rows say how far the trace was and what came of it.
    """
    from dataclasses import replace

    from progdata.builders.prompts import find_profile
    from progdata.cards.generate_tables import rollouts_summary
    from progdata.releases.rolled_out import RolloutSettings, roll_out, usual_sampling

    usual = usual_sampling(how)
    settings = RolloutSettings(
        traces=traces,
        profile=find_profile(profile),
        how=how,  # type: ignore[arg-type], an unknown one is refused
        prefixes=None if all_prefixes else prefixes,
        n=n,
        rounds=rounds,
        push=push,
        model=model,
        engine=_engine(engine),
        sampling=replace(
            usual,
            temperature=usual.temperature if temperature is None else temperature,
            top_p=top_p,
            max_tokens=max_tokens or usual.max_tokens,
        ),
        seed=seed,
        limit=limit,
        segmenter=_segmenter(segmenter),
        tokenizer=tokenizer,
        revision=revision,
        verify=verify,
        options=_engine_options(locals()),
    )
    with _display() as display:
        report = roll_out(settings, out, display=display)
    print(rollouts_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata check progdata-out")
def check(
    folder: Annotated[Path, typer.Argument(help="The folder of a build.", metavar="DIR")],
    tokenizer: Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Check every law on a build; exit 3 and name the offending rows where one is broken."""
    from dataclasses import asdict

    from progdata.releases.check import check as run

    broken = run(folder, tokenizer=tokenizer)
    if as_json:
        _print_json(
            {
                "folder": str(folder),
                "ok": not broken,
                "violations": len(broken),
                "broken": [asdict(violation) for violation in broken],
            }
        )
    elif broken:
        for violation in broken[:50]:
            print(f"{violation.law}: {violation.where}: {violation.detail}")
        print(f"{len(broken):,} violations in {folder}")
    else:
        print(f"{folder}: every law holds")
    if broken:
        raise typer.Exit(3)


@app.command(epilog="Example: progdata segment 'traces/*.jsonl.gz' --segmenter episodes --show 1")
def segment(
    source: Annotated[str, typer.Argument(help="As --source of build.", metavar="SOURCE")],
    segmenter: Segmenter = None,
    tokenizer: Tokenizer = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the base table to this .parquet file.")
    ] = None,
    limit: Limit = None,
    seed: Seed = None,
    show: Annotated[int, typer.Option(min=0, help="Print this many traces, segmented.")] = 0,
    as_json: Json = False,
) -> None:
    """Cut thinking into segments and count their tokens, without building."""
    from progdata.cards.tables import segment_summary
    from progdata.releases.recipe import load_recipe
    from progdata.releases.segmented import segment_source

    recipe = load_recipe(
        None, sources=[source], segmenter=segmenter, tokenizer=tokenizer, limit=limit, seed=seed
    )
    report = segment_source(recipe, out=out, show=show)
    print(segment_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata stats progdata-out")
def stats(
    source: Annotated[
        str, typer.Argument(help="The folder of a build, or a source as of build.", metavar="DIR")
    ],
    samples: Annotated[
        bool,
        typer.Option(
            "--samples", help="What papers report from samples: pass@k, maj@k, coverage, tokens."
        ),
    ] = False,
    k: Annotated[
        list[int] | None,
        typer.Option("--k", min=1, help="Of --samples. May be repeated.", metavar="K"),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Of --samples: plot coverage into this .png or .svg.", metavar="FILE"),
    ] = None,
    grader: Annotated[
        str | None,
        typer.Option(help="Of --samples: math-verify (usual) or deepscaler.", metavar="NAME"),
    ] = None,
    workers: Workers = None,
    tokenizer: Tokenizer = None,
    segmenter: Segmenter = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Show lengths, labels, and how much of them each training context shows.

    With --samples, what several traces of each problem say of a model (docs/samples.md).
    """
    if samples:
        _sample_stats(source, k, plot, grader, workers, tokenizer, segmenter, limit, as_json)
        return
    _refuse_without_samples({"--k": k, "--plot": plot, "--grader": grader, "--workers": workers})
    from progdata.cards.tables import stats_summary
    from progdata.releases.recipe import load_recipe
    from progdata.releases.segmented import build_statistics, segment_source

    if Path(source).is_dir():
        report = build_statistics(Path(source))
    else:
        report = segment_source(
            load_recipe(
                None, sources=[source], tokenizer=tokenizer, segmenter=segmenter, limit=limit
            )
        )
    print(stats_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata verify 'traces/*.jsonl.gz' --grader both --out verified")
def verify(
    source: Annotated[
        str,
        typer.Argument(help="As --source of build, or the folder of a build.", metavar="SOURCE"),
    ],
    grader: Annotated[
        str, typer.Option(help="math-verify, deepscaler or both.", metavar="NAME")
    ] = "math-verify",
    out: Annotated[
        Path | None, typer.Option(help="Write the graded traces and the report into this folder.")
    ] = None,
    workers: Workers = None,
    cpu_seconds: CpuSeconds = CPU_SECONDS,
    memory_mb: MemoryMb = MEMORY_MB,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Grade the answers of traces: verdicts, accuracy, disagreements, slowest items."""
    from progdata.cards.verdict_tables import verify_summary
    from progdata.releases.verified import verify_source
    from progdata.verifiers.grading import Budget

    report = verify_source(
        source,
        grader=grader,
        out=out,
        workers=workers,
        budget=Budget(cpu_seconds, memory_mb),
        limit=limit,
    )
    print(verify_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata lint problems.jsonl --out findings.jsonl")
def lint(
    problems: Annotated[
        str,
        typer.Argument(help="As --source of build; needs no completions.", metavar="PROBLEMS"),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write what was found to this .jsonl file.")
    ] = None,
    workers: Workers = None,
    cpu_seconds: CpuSeconds = CPU_SECONDS,
    memory_mb: MemoryMb = MEMORY_MB,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Find golds that cannot be graded, are empty, or contradict one another."""
    from progdata.cards.lint_tables import lint_summary
    from progdata.releases.linted import lint_source

    report = lint_source(
        problems,
        out=out,
        workers=workers,
        cpu_seconds=cpu_seconds,
        memory_mb=memory_mb,
        limit=limit,
    )
    print(lint_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata decontaminate train.jsonl --against usual --out clean")
def decontaminate(
    source: Annotated[
        str,
        typer.Argument(help="As --source of build; needs no completions.", metavar="SOURCE"),
    ],
    against: Annotated[
        list[str],
        typer.Option(
            help="A benchmark: a source of problems, or the name of one or of a bundle (aime24, "
            "math500, usual, ...). May be repeated.",
            metavar="BENCH",
        ),
    ],
    profile: Annotated[
        str,
        typer.Option(
            help="weighted, ngram-8, ngram-13, coverage-50, fuzzy-95, or embedding.",
            metavar="NAME",
        ),
    ] = "weighted",
    action: Annotated[
        str, typer.Option(help="flag, or remove: copy the source without the flagged rows.")
    ] = "flag",
    out: Annotated[
        Path | None, typer.Option(help="Write the report, and what stays, into this folder.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Of embedding: a sentence-transformers path.")
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Find problems that hold text of a benchmark, with the evidence."""
    from progdata.cards.contamination_tables import contamination_summary
    from progdata.releases.decontaminated import decontaminate_source
    from progdata.verifiers.near_duplicates import MODEL

    report = decontaminate_source(
        source,
        against,
        profile=profile,
        action=action,
        out=out,
        limit=limit,
        model=model or MODEL,
    )
    print(contamination_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata dedup 'traces/*.jsonl.gz' --keep-traces 4 --out unique")
def dedup(
    source: Annotated[
        str,
        typer.Argument(help="As --source of build; needs no completions.", metavar="SOURCE"),
    ],
    method: Annotated[
        str,
        typer.Option(help="exact: the same but for notation; near: by embeddings as well."),
    ] = "exact",
    threshold: Annotated[
        float | None, typer.Option(help="Of near: the cosine to be over, by default 0.9.")
    ] = None,
    agree: Annotated[
        bool,
        typer.Option(
            help="Of near: numbers, formulas and deciding words must agree as well; "
            "--no-agree is DeepScaleR's rule as published."
        ),
    ] = True,
    model: Annotated[
        str | None, typer.Option(help="Of near: a sentence-transformers path.", metavar="PATH")
    ] = None,
    keep_traces: Annotated[
        int | None, typer.Option(min=1, help="Keep so many traces a problem.", metavar="N")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write what stays, each removal, and the report into this folder."),
    ] = None,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Remove duplicate problems and traces, with the evidence."""
    from progdata.cards.duplicate_tables import dedup_summary
    from progdata.releases.deduplicated import dedup_source
    from progdata.verifiers.near_duplicates import COSINE, MODEL

    report = dedup_source(
        source,
        method=method,
        model=model or MODEL,
        threshold=COSINE if threshold is None else threshold,
        agree=agree,
        keep_traces=keep_traces,
        out=out,
        limit=limit,
    )
    print(dedup_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata curate 'traces/*.jsonl.gz' --pass-rate 0.1:0.9 --out hard")
def curate(
    source: Annotated[
        str,
        typer.Argument(help="As --source of build, or the folder of a build.", metavar="SOURCE"),
    ],
    pass_rate: Annotated[
        str | None,
        typer.Option(help="Only problems with a pass rate from A to B.", metavar="A:B"),
    ] = None,
    length_bin: Annotated[
        str | None,
        typer.Option(
            help="Only the short, middle or long third of the problems, or from A to B tokens.",
            metavar="BIN",
        ),
    ] = None,
    length_of: Annotated[
        str, typer.Option(help="What is long: the thinking (mean), or the problem.", metavar="WHAT")
    ] = "thinking",
    finished: Annotated[
        bool, typer.Option("--finished", help="Only traces that no token limit cut off.")
    ] = False,
    gradable: Annotated[
        bool, typer.Option("--gradable", help="Only traces with a gold that can be read.")
    ] = False,
    min_traces: Annotated[
        int, typer.Option(min=1, help="Only problems with so many traces left.", metavar="N")
    ] = 1,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Draw so many problems.", metavar="N")
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(help="Sample in proportion by source, length, or pass-rate.", metavar="BY"),
    ] = None,
    per_stratum: Annotated[
        bool, typer.Option("--per-stratum", help="Draw --sample problems of each stratum.")
    ] = False,
    cut_traces: Annotated[
        str,
        typer.Option(
            help="What a trace that the limit cut off counts as: ignore (nothing), or wrong.",
            metavar="AS",
        ),
    ] = "ignore",
    grader: Annotated[
        str, typer.Option(help="math-verify or deepscaler.", metavar="NAME")
    ] = "math-verify",
    tokenizer: Tokenizer = None,
    seed: Annotated[int, typer.Option(help="Of the sample.", metavar="N")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Write what stays, the measures, and what left into this folder."),
    ] = None,
    workers: Workers = None,
    cpu_seconds: CpuSeconds = CPU_SECONDS,
    memory_mb: MemoryMb = MEMORY_MB,
    limit: Limit = None,
    as_json: Json = False,
) -> None:
    """Measure how hard problems are by their traces, and select."""
    from progdata.cards.curate_tables import curate_summary
    from progdata.releases.curated import curate_source
    from progdata.verifiers.grading import Budget
    from progdata.verifiers.selection import CurateSettings, read_length_bin, read_range

    choices: dict[str, Any] = {
        "length_of": length_of, "stratify": stratify, "cut_traces": cut_traces
    }  # fmt: skip
    settings = CurateSettings(
        pass_rate=None if pass_rate is None else read_range(pass_rate),
        length_bin=None if length_bin is None else read_length_bin(length_bin),
        finished=finished,
        gradable=gradable,
        min_traces=min_traces,
        sample=sample,
        per_stratum=per_stratum,
        seed=seed,
        **choices,
    )
    report = curate_source(
        source,
        settings=settings,
        out=out,
        grader=grader,
        tokenizer=tokenizer or "words",
        workers=workers,
        budget=Budget(cpu_seconds, memory_mb),
        limit=limit,
    )
    print(curate_summary(report)) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata card progdata-out --facts card.yaml")
def card(
    folder: Annotated[Path, typer.Argument(help="The folder of a build.", metavar="DIR")],
    facts: Annotated[
        Path | None,
        typer.Option(
            help="What no report knows: licence, languages, authors, notes, citation "
            "(docs/cards.md).",
            metavar="FILE",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the dataset card of a build, its plots and its Croissant file."""
    from progdata.cards.card_facts import read_facts
    from progdata.cards.release_tables import card_summary
    from progdata.releases.carded import write_card

    report = write_card(folder, facts=read_facts(facts) if facts else None)
    print(visible(card_summary(report), kept="\n")) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata push progdata-out --repo org/name --version 1.0.0")
def push(
    folder: Annotated[Path, typer.Argument(help="The folder of a build.", metavar="DIR")],
    repo: Annotated[str, typer.Option(help="Its name, as on the Hub.", metavar="ORG/NAME")],
    version: Annotated[
        str | None,
        typer.Option(help="Of three numbers; left out, the least that fits is told.", metavar="X"),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", help="hub, or the folder of a local registry.", metavar="WHERE")
    ] = "hub",
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository private.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be published; publish nothing.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(help="Write the release's record (name, version, hash).", metavar="FILE"),
    ] = None,
    tokenizer: Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Publish a build as a release: checked, one commit, one tag, or nothing at all.

    Run the same command again after a failure: what arrived is not sent twice.
    """
    from progdata.cards.release_tables import push_summary
    from progdata.releases.pushed import push as run

    with _display() as display:
        report = run(
            folder,
            repo,
            version,
            to=to,
            private=private,
            dry_run=dry_run,
            record=record,
            tokenizer=tokenizer,
            display=display,
        )
    print(visible(push_summary(report), kept="\n")) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata pull org/name@1.0.0 --variant noisy --out data")
def pull(
    release: Annotated[
        str, typer.Argument(help="org/name@1.2.0 or org/name@latest.", metavar="RELEASE")
    ],
    variant: Annotated[
        list[str] | None, typer.Option(help="Only this one. May be repeated.", metavar="NAME")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="Only this one. May be repeated.", metavar="NAME")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for the files; left out, they stay in the cache.")
    ] = None,
    source: From = "hub",
    record: Annotated[
        Path | None,
        typer.Option(help="Refuse a release that is not the one recorded here.", metavar="FILE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a release, or a part of it, and prove that its bytes are those that were published."""
    from progdata.cards.release_tables import pull_summary
    from progdata.releases.pulled import pull as run

    with _display() as display:
        pulled = run(
            release,
            variants=variant,
            splits=split,
            out=out,
            source=source,
            record=record,
            display=display,
        )
    report = pulled.report()
    print(visible(pull_summary(report), kept="\n")) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata diff org/name@1.0.0 progdata-out")
def diff(
    before: Annotated[str, typer.Argument(help="A folder, or org/name@1.2.0.", metavar="A")],
    after: Annotated[str, typer.Argument(help="A folder, or org/name@1.2.0.", metavar="B")],
    source: From = "hub",
    as_json: Json = False,
) -> None:
    """Show what changed: rows by trace_id, labels, columns, recipe; and the version it asks for."""
    from progdata.cards.release_tables import diff_summary
    from progdata.releases.diffed import diff as run

    report = run(before, after, source=source)
    print(visible(diff_summary(report), kept="\n")) if not as_json else _print_json(report)


@app.command(epilog="Example: progdata releases org/name")
def releases(
    repo: Annotated[str, typer.Argument(help="Its name, as on the Hub.", metavar="ORG/NAME")],
    source: From = "hub",
    as_json: Json = False,
) -> None:
    """List the releases of a name: version, date, commit, rows, what changed."""
    from progdata.cards.release_tables import releases_summary
    from progdata.releases.released import list_releases

    report = list_releases(repo, source=source)
    print(visible(releases_summary(report), kept="\n")) if not as_json else _print_json(report)


@app.command("eval", epilog="Example: progdata eval samples/traces.parquet --lengths progdata-out")
def evaluate(
    traces: Annotated[
        str,
        typer.Argument(help="As --source of build, or the folder of a build.", metavar="TRACES"),
    ],
    variant: Annotated[
        str | None, typer.Option(help="Of a build: this one, not its first.", metavar="NAME")
    ] = None,
    grammar_of: Annotated[
        str | None,
        typer.Option(
            "--grammar-of",
            help="A build: markers are written as there. For what a model trained on it wrote.",
            metavar="BUILD",
        ),
    ] = None,
    tokenizer: Tokenizer = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Traces whose lengths the position baselines know; by default those of the other "
            "problems.",
            metavar="TRACES",
        ),
    ] = None,
    count_markers: Annotated[
        bool, typer.Option("--count-markers", help="Count the markers' own tokens as progress.")
    ] = False,
    long_tokens: Annotated[
        int, typer.Option(min=1, help="Longer thinking is told apart.", metavar="N")
    ] = 16_384,
    grade: Annotated[
        bool, typer.Option("--grade/--no-grade", help="Grade answers, where there is a gold.")
    ] = True,
    grader: Annotated[
        str, typer.Option(help="math-verify or deepscaler.", metavar="NAME")
    ] = "math-verify",
    unconditioned: Annotated[
        bool,
        typer.Option(
            "--unconditioned", help="Ask --model again at each marker, without those before it."
        ),
    ] = False,
    rollouts: Annotated[
        str | None,
        typer.Option(
            help="What rollouts --how continue made: how far progress can be predicted.",
            metavar="DIR",
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(help="A run of train probe, on the same positions.", metavar="DIR"),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="unconditioned: the model that wrote them.", metavar="M")
    ] = None,
    engine: Engine = "vllm",
    profile: Profile = "deepscaler",
    out: Annotated[
        Path | None, typer.Option(help="Write markers.parquet and report.json into this folder.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot predictions into this .png or .svg.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals and samples.", metavar="N")] = 0,
    limit: Limit = None,
    workers: Workers = None,
    revision: Revision = None,
    base_url: BaseUrl = None,
    concurrency: Concurrency = None,
    retries: Retries = None,
    timeout: Timeout = None,
    tensor_parallel_size: TensorParallel = None,
    data_parallel_size: DataParallel = None,
    dtype: Dtype = None,
    max_model_len: MaxModelLen = None,
    gpu_memory_utilization: GpuMemory = None,
    enforce_eager: EnforceEager = None,
    batch_size: BatchSize = None,
    device: Annotated[
        str | None,
        typer.Option(help="probe, transformers: cuda, cpu, ...", metavar="NAME"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure how well the markers in traces predict progress, beside baselines."""
    from progdata.builders.prompts import find_profile
    from progdata.cards.eval_tables import eval_summary
    from progdata.training_refs.evaluated import EvalSettings
    from progdata.training_refs.evaluated import evaluate as run

    settings = EvalSettings(
        traces=traces,
        variant=variant,
        grammar_of=grammar_of,
        tokenizer=tokenizer or "words",
        lengths=lengths,
        count_markers=count_markers,
        long_tokens=long_tokens,
        grade=grade,
        grader=grader,
        unconditioned=unconditioned,
        rollouts=rollouts,
        probe=probe,
        model=model,
        revision=revision,
        engine=_engine(engine),
        profile=find_profile(profile),
        out=out,
        plot=plot,
        seed=seed,
        limit=limit,
        workers=workers,
        options=_engine_options(locals() | {"device": None}),  # the settings hand it on
        device=device or "auto",
    )
    with _display() as display:
        report = run(settings, display=display)
    print(visible(eval_summary(report), kept="\n")) if not as_json else _print_json(report)


train = typer.Typer(help="Train on a build or a release.", no_args_is_help=True)
app.add_typer(train, name="train")

TrainConfig = Annotated[
    str,
    typer.Option(
        "--config", help="A YAML file, or the name of a shipped recipe.", metavar="RECIPE"
    ),
]
TrainSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="A value on top of the recipe. May be repeated.", metavar="FIELD=VALUE"
    ),
]
TrainOut = Annotated[Path, typer.Option(help="The folder of the run: checkpoints, log, model.")]
Dataset = Annotated[
    str | None,
    typer.Option(help="The folder of a build, or org/name@1.2.0.", metavar="DATASET"),
]
BaseModel = Annotated[
    str | None, typer.Option(help="A folder, or a hub id org/name[@revision].", metavar="M")
]
Relabel = Annotated[
    bool,
    typer.Option("--relabel", help="Make the labels anew for the tokenizer of the model."),
]


@train.command(epilog="Example: progdata train sft --config sft --dataset progdata-out --out run")
def sft(
    config: TrainConfig = "sft",
    dataset: Dataset = None,
    model: BaseModel = None,
    settings: TrainSettings = None,
    out: TrainOut = Path("progdata-sft"),
    relabel: Relabel = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on marked traces, with more weight on the labels.

    Run the same command again to go on after a kill.
    """
    from progdata.cards.training_tables import sft_summary
    from progdata.training_refs.sft import SftRecipe
    from progdata.training_refs.sft import train as run

    given = _train_settings(dataset, model, relabel, settings)
    _train(SftRecipe, run, sft_summary, config, given, out, as_json)


@train.command(epilog="Example: progdata train grpo --config grpo --model run/model --out rl")
def grpo(
    config: TrainConfig = "grpo",
    dataset: Dataset = None,
    model: BaseModel = None,
    settings: TrainSettings = None,
    out: TrainOut = Path("progdata-grpo"),
    as_json: Json = False,
) -> None:
    """Reinforce progress reports: GRPO with rewards for accuracy, frequency and correctness."""
    from progdata.cards.training_tables import grpo_summary
    from progdata.training_refs.grpo import GrpoRecipe
    from progdata.training_refs.grpo import train as run

    given = _train_settings(dataset, model, False, settings)
    _train(GrpoRecipe, run, grpo_summary, config, given, out, as_json)


@train.command(epilog="Example: progdata train probe --config probe --dataset progdata-out")
def probe(
    config: TrainConfig = "probe",
    dataset: Dataset = None,
    model: BaseModel = None,
    settings: TrainSettings = None,
    out: TrainOut = Path("progdata-probe"),
    as_json: Json = False,
) -> None:
    """Train linear probes for progress on the hidden states of a model."""
    from progdata.cards.probe_tables import probe_summary
    from progdata.training_refs.probe import ProbeRecipe
    from progdata.training_refs.probe import train as run

    given = _train_settings(dataset, model, False, settings)
    _train(ProbeRecipe, run, probe_summary, config, given, out, as_json)


bench = typer.Typer(help="Measure checkers on labelled data.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command(epilog="Example: progdata bench answers --checker math-verify --checker strings")
def answers(
    pairs: Annotated[
        Path | None,
        typer.Argument(
            help="A .jsonl file with gold, pred, equal; by default the set of this package.",
            metavar="PAIRS",
        ),
    ] = None,
    checker: Annotated[
        list[str] | None,
        typer.Option(
            help="math-verify, deepscaler, math-verify-direct, strings, or an import path "
            "package.module:function. May be repeated.",
            metavar="NAME",
        ),
    ] = None,
    workers: Workers = None,
    cpu_seconds: CpuSeconds = CPU_SECONDS,
    memory_mb: MemoryMb = MEMORY_MB,
    as_json: Json = False,
) -> None:
    """Hold answer checkers against labelled pairs: mistakes, accuracy, speed, crashes."""
    from progdata.cards.answer_tables import bench_summary
    from progdata.verifiers.answer_bench import bench_answers

    report = bench_answers(
        pairs, checker, workers=workers, cpu_seconds=cpu_seconds, memory_mb=memory_mb
    )
    print(bench_summary(report)) if not as_json else _print_json(report)


@bench.command(epilog="Example: progdata bench contamination --profile weighted --profile ngram-8")
def contamination(
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile",
            "--profiles",
            help="As of decontaminate, or several with commas between; by default all but "
            "embedding. May be repeated.",
            metavar="NAME",
        ),
    ] = None,
    checker: Annotated[
        list[str] | None,
        typer.Option(
            help="The import path package.module:function of a checker of yours. May be repeated.",
            metavar="PATH",
        ),
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(
            help="A benchmark to plant leaks of, as --against of decontaminate; by default "
            "generated problems. May be repeated.",
            metavar="BENCH",
        ),
    ] = None,
    clean: Annotated[
        str | None,
        typer.Option(
            help="Problems that hold nothing of it; by default generated.", metavar="SOURCE"
        ),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Leaks of each kind.", metavar="N")] = 200,
    model: Annotated[
        str | None, typer.Option(help="Of embedding: a sentence-transformers path.", metavar="PATH")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of what is generated.", metavar="N")] = 0,
    as_json: Json = False,
) -> None:
    """Plant leaks of known kind into clean problems: recall by kind, false alarms, speed."""
    from progdata.cards.contamination_bench_table import bench_summary
    from progdata.releases.benched import bench_sources
    from progdata.verifiers.near_duplicates import MODEL

    names = [name.strip() for own in profile or () for name in own.split(",")]
    report = bench_sources(
        names or ([] if checker else None),
        checker or (),
        items=items or (),
        clean=clean,
        rows=rows,
        seed=seed,
        model=model or MODEL,
    )
    print(bench_summary(report)) if not as_json else _print_json(report)


def main() -> NoReturn:
    """Run the command line; every error becomes one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except ProgdataError as error:
        _fail(str(error), error.exit_code, error)
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        _fail(f"{named}{error.strerror or error}", 1, error)
    except Exception as error:
        explain = getattr(error, "format_message", None)  # a wrong option, by Typer's own Click
        if explain is not None:
            _fail(f"{explain()} (progdata --help shows the commands)", 2, error)
        kind = type(error).__name__
        _fail(f"internal error: {kind}: {error}; please report it (--debug shows where)", 1, error)
    if code == INTERRUPTED:
        print("progdata: interrupted; run the same command again to go on", file=sys.stderr)
    sys.exit(code)


def _fail(message: str, code: int, error: BaseException) -> NoReturn:
    if os.environ.get("PROGDATA_DEBUG"):
        print(redact("".join(traceback.format_exception(error))), file=sys.stderr)
    print(f"progdata: {visible(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)


def _train_settings(
    dataset: str | None, model: str | None, relabel: bool, settings: list[str] | None
) -> list[str]:
    """The values that options put on top of a trainer's recipe, as `--set` takes them."""
    named = {
        "data.dataset": dataset,
        "model": model,
        "data.relabel": True if relabel else None,
    }
    given = {name: value for name, value in named.items() if value is not None}
    # JSON is YAML but for an escaped emoji, which is two surrogates there
    ours = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items()]
    return [*ours, *(settings or ())]


def _train(
    kind: Any,
    run: Any,
    summary: Any,
    config: str,
    settings: list[str],
    out: Path,
    as_json: bool,
) -> None:
    """Run a trainer on its recipe, and print its report."""
    from progdata.training_refs.train_recipe import load_recipe

    recipe = load_recipe(kind, config, settings)
    with _display() as display:
        report = run(recipe, out, display=display)
    print(visible(summary(report), kept="\n")) if not as_json else _print_json(report)


def _verify_options(verify: bool | None, keep: list[str] | None) -> dict[str, Any] | None:
    """What --verify and --keep say of a recipe's `verify` section; None where they say nothing."""
    chosen = {
        "enabled": verify,
        "keep": "all" if keep == ["all"] else keep,
    }
    return {name: value for name, value in chosen.items() if value is not None} or None


def _engine(name: str) -> Any:
    """The name of an engine. Raises UsageError for an unknown one."""
    from progdata.builders.errors import UsageError
    from progdata.builders.nearest import did_you_mean
    from progdata.builders.sampling_engines import ENGINES

    if name not in ENGINES:
        raise UsageError(
            f"unknown engine {name!r}{did_you_mean(name, ENGINES)}; "
            f"choose from {', '.join(ENGINES)}"
        )
    return name


def _sample_stats(
    source: str,
    k: list[int] | None,
    plot: Path | None,
    grader: str | None,
    workers: int | None,
    tokenizer: str | None,
    segmenter: str | None,
    limit: int | None,
    as_json: bool,
) -> None:
    """`stats --samples`."""
    from progdata.builders.errors import UsageError
    from progdata.cards.sample_tables import samples_summary
    from progdata.releases.sampled import sample_statistics

    if segmenter is not None:
        raise UsageError("--segmenter: samples are not segmented")
    report = sample_statistics(
        source,
        tokenizer=tokenizer or "words",
        grader=grader or "math-verify",
        ks=k,
        limit=limit,
        workers=workers,
        plot=plot,
    )
    print(samples_summary(report)) if not as_json else _print_json(report)


def _refuse_without_samples(given: dict[str, Any]) -> None:
    from progdata.builders.errors import UsageError

    for flag, value in given.items():
        if value is not None:
            raise UsageError(f"{flag} is an option of stats --samples")


def _segmenter(name: str | None) -> Any:
    """The settings of a segmenter from its name on the command line."""
    from progdata.builders.base_table import SegmenterSettings
    from progdata.releases.recipe import load_recipe

    return SegmenterSettings(**load_recipe(None, segmenter=name).segmenter.model_dump())


def _engine_options(given: dict[str, Any]) -> Any:
    """The options of an engine among those of a command."""
    from dataclasses import fields

    from progdata.builders.sampling_engines import EngineOptions

    return EngineOptions(**{own.name: given[own.name] for own in fields(EngineOptions)})


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content))


def _display() -> Any:
    """A live bar on a terminal, plain lines elsewhere."""
    from contextlib import nullcontext

    from progdata.releases.display import LiveBar, PlainLines

    return LiveBar() if sys.stderr.isatty() else nullcontext(PlainLines())


if __name__ == "__main__":
    main()
