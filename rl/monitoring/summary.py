"""What a finished run says last: what it came to, where everything is, and the next commands to type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl.monitoring.console import beside_fixed

LEFT_BEHIND = {
    # in the run folder: what it is
    "config.yaml": "every setting, as it was",
    "checkpoints": "policy and reward model, as Transformers checkpoints",
    "metrics.jsonl": "every number of every step",
    "tensorboard": "the same, as the dashboard shows it",
    "stream": "every rollout with its labels and scores, as Parquet",
    "summary.json": "these lines, for programs",
}


def summary_lines(folder: Path, summary: dict[str, Any], sieve: str) -> list[str]:
    """The lines.

    Args:
        folder: The run folder.
        summary: What the run wrote as ``summary.json``.
        sieve: How the user can type the command.
    """
    policy, mprm, labels = summary["policy"], summary["mprm"], summary["annotation"]
    start, end = policy["accuracy_start"], policy["accuracy_end"]
    saved = beside_fixed(labels["tokens"], labels["fixed_tokens"])
    lines = ["", f"policy   held-out accuracy {start:.3f} -> {end:.3f} ({100 * (end - start):+.1f} points)"]
    if None not in mprm.values():  # areas may not be known, and a run that an earlier version began has no start
        lines += [
            f"MPRM     AUC within a step kind, by errors {mprm['auc_start']:.3f} -> {mprm['auc_end']:.3f} "
            f"+- {mprm['auc_standard_error_end']:.3f} (0.5 is chance)",
            f"         kinds alike {mprm['auc_alike_end']:.3f}; over all steps {mprm['auc_plain_end']:.3f}; "
            f"step index alone {mprm['auc_index_only_end']:.3f}",
        ]
    if labels["continuations"]:
        lines.append(
            f"labels   {labels['continuations']:,} continuations, {labels['tokens']:,} tokens{saved}; "
            f"the buffer keeps {summary['selection']['kept']:,} of {summary['selection']['seen']:,} annotated rollouts"
        )
    lines.append(f"took     {summary['wall_seconds'] / 60:.1f} minutes, {summary['peak_memory_gib']:.1f} GiB at most")
    lines.append(f"written  {folder}")
    lines += [f"           {name:<14} {what}" for name, what in LEFT_BEHIND.items() if (folder / name).exists()]
    next_commands = {f"{sieve} board {folder}": "the dashboard", f"{sieve} report {folder}": "one HTML page of it all"}
    width = max(map(len, next_commands))
    return [*lines, "", "next:", *(f"  {command:<{width}}  {what}" for command, what in next_commands.items())]
