"""Hub datasets as sources: `hf:org/name[:config][@revision][#split]`, streamed by `datasets`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from progdata.builders.columns import TRACES, detect_columns
from progdata.builders.errors import ProgdataError, UsageError, one_line
from progdata.builders.shard_rows import Shard

_HF = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.+-]+))?"
    r"(?:@(?P<revision>[\w./-]+))?(?:#(?P<split>[\w.-]+))?"
)


def find_hub_dataset(spec: str) -> dict[str, Any]:
    """The record of a hub dataset, its revision resolved to a commit.

    Raises UsageError for a spec of another form, ProgdataError where the hub knows no such dataset
    or does not answer.
    """
    parts = _HF.fullmatch(spec)
    if not parts:
        raise UsageError(f"source {spec!r}: write hf:org/name[:config][@revision][#split]")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi().dataset_info(parts["repo"], revision=parts["revision"])
    except RevisionNotFoundError as error:
        reason = f"{parts['repo']} has no branch, tag or commit {parts['revision']!r}"
        raise ProgdataError(f"source {spec!r}: {reason}") from error
    except RepositoryNotFoundError as error:
        reason = f"no dataset {parts['repo']} on the hub, or none that you may read"
        raise ProgdataError(f"source {spec!r}: {reason}") from error
    except Exception as error:  # the hub client and its transport raise many kinds
        raise ProgdataError(f"source {spec!r}: {one_line(error)}") from error
    return {
        "spec": spec,
        "repo": parts["repo"],
        "config": parts["config"],
        "split": parts["split"] or "train",
        "revision": info.sha,
    }


def hub_shards(
    record: Mapping[str, Any],
    named_columns: Mapping[str, str],
    shard_bytes: int,
    needs: Sequence[str] = TRACES,
) -> Iterator[Shard]:
    """The shards of a hub dataset, given by its record and streamed by the `datasets` library."""
    from datasets import load_dataset

    spec = record["spec"]
    origin = "/".join(str(record[name]) for name in ("repo", "config", "split", "revision"))
    first_row, columns = 1, None
    try:
        dataset = load_dataset(
            record["repo"],
            record["config"],
            split=record["split"],
            revision=record["revision"],
            streaming=True,
        )
        batches = dataset.with_format("arrow").iter(batch_size=64)
        for table in _batches_of(batches, shard_bytes):
            columns = columns or detect_columns(table.column_names, named_columns, spec, needs)
            names = sorted({name for names in columns.values() for name in names})
            key = f"{origin}/{first_row}/{table.num_rows}"
            name = record["repo"]
            rows = table.select(names)
            yield Shard(key, spec, name, first_row, 0, table.num_rows, rows, columns)
            first_row += table.num_rows
    except ProgdataError:
        raise
    except Exception as error:  # datasets, its readers and the hub client raise many kinds
        raise ProgdataError(f"source {spec!r}: {one_line(error)}") from error


def _batches_of(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """Small tables joined to tables of about `size` bytes."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(part.nbytes for part in held) >= size:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()
