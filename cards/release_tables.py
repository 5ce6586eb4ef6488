"""What `progdata push`, `pull`, `diff` and `releases` print."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import table

_KINDS = ("added", "removed", "changed", "moved")


def card_summary(report: Mapping[str, Any]) -> str:
    """What was written, and which facts the card shows as missing."""
    lines = [
        f"{report['folder']}: {own['name']}, {own['bytes']:,} bytes" for own in report["files"]
    ]
    if report["missing"]:
        lines.append(f"shown as missing: {', '.join(report['missing'])} (give them with --facts)")
    return "\n".join(lines)


def push_summary(report: Mapping[str, Any]) -> str:
    """What was, or would be, published, and what changed since the release before."""
    release = f"{report['name']}@{report['version']}"
    size = f"{report['files']:,} files, {report['bytes']:,} bytes"
    new = f"{len(report['new_files']):,} of them new or changed, {report['new_bytes']:,} bytes"
    lines = [
        {
            "planned": f"{release} would be published: {size}; {new}",
            "published": f"{release} is published: {size}; {new}",
            "finished": f"{release} was published without its tag, which it "
            f"{'would now get' if report['dry_run'] else 'now has'}: {size}",
            "already there": f"{release} is published already, with the same bytes: {size}",
        }[report["status"]]
    ]
    if report["status"] in ("planned", "published") and report["previous"]:
        least = f"the least version that fits is {report['least_version']}"
        changes = "no changes" if report["level"] == "none" else f"{report['level']} changes"
        lines.append(f"after {report['previous']}: {changes}; {least}")
    lines += [f"  {line}" for line in report["changes"]]
    lines += [f"  {name} left and is deleted" for name in report["removed_files"]]
    if report["commit"]:
        lines.append(f"commit {report['commit']}, tag {report['tag']}, {report['registry']}")
    lines.append(f"lock file sha256 {report['lock_sha256']}")
    return "\n".join(lines)


def pull_summary(report: Mapping[str, Any]) -> str:
    """What was pulled, and how to load it."""
    return "\n".join(
        [
            f"{report['name']}@{report['version']} (commit {report['commit']}), "
            f"{report['registry']}: {report['files']:,} files, {report['bytes']:,} bytes, "
            "every sha256 as published",
            f"lock file sha256 {report['lock_sha256']}",
            f"{report['folder']}: {report['load']}",
        ]
    )


def diff_summary(report: Mapping[str, Any]) -> str:
    """What changed, with the first trace ids of each kind."""
    if report["level"] == "none":
        return f"{report['before']} and {report['after']} hold the same"
    lines = [f"{report['before']} -> {report['after']}: {report['level']} changes"]
    lines += [f"  {line}" for line in report["changes"]]
    examples = [
        [name, kind, own[kind]["count"], " ".join(own[kind]["examples"])]
        for name, own in report["variants"].items()
        for kind in _KINDS
        if own[kind]["count"]
    ]
    if examples:
        lines += ["", table(["variant", "rows", "count", "the first"], examples)]
    return "\n".join(lines)


def releases_summary(report: Mapping[str, Any]) -> str:
    """The releases of a name, the latest first, each with what it changed."""
    lines: list[str] = []
    for own in report["releases"]:
        if "unreadable" in own:
            lines += [f"{report['name']}@{own['version']}", f"  {own['unreadable']}"]
            continue
        head = f"{report['name']}@{own['version']}  {own['date']}  {own['commit'][:12]}"
        variants = ", ".join(own["variants"])
        lines.append(f"{head}  {own['rows']:,} rows  {own['bytes']:,} bytes  {variants}")
        lines += [f"  {line}" for line in own["changes"]]
    return "\n".join(lines)
