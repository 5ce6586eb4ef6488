"""What a recipe's names are found to be: sources, tokenizer, segmenter, the way to count."""

from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from progdata import __version__
from progdata.builders.base_table import BaseSettings, SegmenterSettings
from progdata.builders.counter_proof import why_not_fast
from progdata.builders.engine import LocalEngine
from progdata.builders.errors import ProgdataError
from progdata.builders.sat_model import find_model
from progdata.builders.schema import content_id
from progdata.builders.sources import Source, find_source
from progdata.builders.tokenizer import (
    TokenizerSource,
    find_tokenizer,
    load_counter,
)
from progdata.releases.benchmarks import Benchmarks, read_benchmarks
from progdata.releases.lockfile import TokenizerRecord
from progdata.releases.recipe import Recipe
from progdata.verifiers.verify_rows import VerifySettings


@dataclass(frozen=True)
class Inputs:
    """What a recipe's names were found to be."""

    recipe: Recipe
    sources: list[Source]
    tokenizer: TokenizerSource
    settings: BaseSettings
    segmenter_sha256: str | None
    verify: VerifySettings | None
    benchmarks: Benchmarks | None
    slow_because: str | None = None  # why the reference tokenizer counts, where it does

    @property
    def settings_key(self) -> str:
        """A hash of all that can change the base rows of a shard; the tokenizer by its content."""
        settings = asdict(self.settings) | {"tokenizer_path": self.tokenizer.fingerprint}
        verify = self.verify.key if self.verify else ""
        return content_id(repr(settings), str(self.segmenter_sha256), verify, __version__)

    @property
    def build_id(self) -> str:
        """A hash of all that determines the bytes of a build."""
        records = [source.record for source in self.sources]
        found = self.benchmarks.found if self.benchmarks else {}
        return content_id(repr(self.recipe), repr(records), repr(found), self.settings_key)

    @property
    def tokenizer_record(self) -> TokenizerRecord:
        """The tokenizer as the lock file declares it."""
        found = self.tokenizer
        exact = "fastokens" if self.settings.fast else "tokenizers"
        return TokenizerRecord(
            spec=found.spec,
            fingerprint=found.fingerprint,
            revision=found.revision,
            template_sha256=found.template_sha256,
            counter="words" if found.path is None else exact,
            slow_because=self.slow_because,
        )


def find_inputs(recipe: Recipe) -> Inputs:
    """Look up everything that a recipe names; which counter is used is left to `choose_counter`.

    A recipe that generates its traces has no sources yet. Raises UsageError or ProgdataError.
    """
    sources = [
        find_source(source.spec, seed=recipe.seed, columns=source.columns)
        for source in recipe.sources
    ]
    tokenizer = find_tokenizer(recipe.tokenizer)
    segmenter = SegmenterSettings(**recipe.segmenter.model_dump())
    model = find_model(segmenter.model) if segmenter.name == "sat" else None
    if model is not None:  # so that every worker loads the files that were fingerprinted
        segmenter = replace(segmenter, model=model.pinned)
    settings = BaseSettings(
        tokenizer_path=tokenizer.path,
        segmenter=segmenter,
        progress=recipe.progress,
        prompt_profile=recipe.profile(),
        grammar=recipe.grammar(),
        cut_traces=recipe.policies.cut_traces,
        marked_traces=recipe.policies.marked_traces,
        special_tokens=any(variant.special for variant in recipe.variants),
    )
    fingerprint = model.fingerprint if model is not None else None
    against = recipe.contamination.against
    benchmarks = read_benchmarks(against) if against else None
    verify = recipe.verify_settings()
    return Inputs(recipe, sources, tokenizer, settings, fingerprint, verify, benchmarks)


@dataclass(frozen=True)
class WarmUp:
    """Loads the fast counter of a tokenizer, as the first thing a worker does."""

    path: str | None

    def __call__(self) -> None:
        with suppress(ProgdataError, ImportError):
            load_counter(self.path, True)


def choose_counter(inputs: Inputs, engine: LocalEngine) -> Inputs:
    """The inputs with the fast counter switched on, if it is shown equal to the reference.

    The proof runs in the engine, so that the process that loads tokenizers is one that counts.
    """
    tokenizer = inputs.tokenizer
    if tokenizer.path is None:
        return inputs
    (reason,) = engine.run(_why_not_fast, [tokenizer])
    settings = replace(inputs.settings, fast=reason is None)
    return replace(inputs, settings=settings, slow_because=reason)


def _why_not_fast(tokenizer: TokenizerSource) -> str | None:
    return why_not_fast(str(tokenizer.path), tokenizer.fingerprint)
