"""What `progdata generate` and `progdata rollouts` print."""

from collections.abc import Mapping
from typing import Any

from progdata.cards.tables import percent, table


def generate_summary(report: Mapping[str, Any]) -> str:
    """The samples that are there, and what those of this run cost."""
    samples, cost = report["samples"], report["cost"]
    lines = [
        f"{samples:,} samples of {report['problems']:,} problems: {report['new']:,} new, "
        f"{report['reused']:,} from earlier runs, {report['failed']:,} failed",
        *(
            f"  {stage}: {', '.join(f'{reason}: {rows:,}' for reason, rows in reasons.items())}"
            for stage, reasons in report["rejected"].items()
        ),
        f"{report['model']} ({report['revision'][:12] or 'revision unknown'}) by "
        f"{', '.join(report['engine_versions'])}; prompts as {report['prompt_profile']}",
        f"{report['truncated'] / samples:.1%} truncated, "
        f"{report['think_closed'] / samples:.1%} closed their thinking",
    ]
    if report.get("accuracy") is not None:
        lines.append(f"{report['accuracy']:.1%} of {report['decided']:,} answers correct")
    lines += [
        f"this run: {cost['prompt_tokens']:,} prompt and {cost['completion_tokens']:,} completion "
        f"tokens, {cost['seconds']:,.1f} s, {cost['tokens_per_second']:,.0f} tokens/s",
        "",
        f"{report['out']}/traces.parquet: a source for build, verify, stats and the rest",
    ]
    return "\n".join(lines)


def rollouts_summary(report: Mapping[str, Any]) -> str:
    """The rollouts that are there, their value by where they begin, and what this run cost."""
    cost = report["cost"]
    rows = [
        [
            f"{10 * own['decile'] - 10}-{10 * own['decile']}%",
            own["rollouts"],
            percent(own["value"]),
            own["mean_tokens"],
            percent(own["truncated"] / own["rollouts"]),
        ]
        for own in report["by_decile"]
    ]
    return "\n".join(
        [
            f"{report['rollouts']:,} rollouts of {report['prefixes']:,} prefixes of "
            f"{report['traces']:,} traces: {report['new']:,} samples new, "
            f"{report['failed']:,} failed",
            f"{report['model']} ({report['revision'][:12] or 'revision unknown'}), "
            f"{report['how']}, {report['n']} a prefix",
            "",
            table(["progress", "rollouts", "correct", "tokens", "truncated"], rows),
            "",
            f"this run: {cost['prompt_tokens']:,} prompt and {cost['completion_tokens']:,} "
            f"completion tokens, {cost['seconds']:,.1f} s, "
            f"{cost['tokens_per_second']:,.0f} tokens/s",
            f"{report['out']}/rollouts.parquet: one row a rollout",
        ]
    )
