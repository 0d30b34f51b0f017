"""A model card: what a policy or a reward model came from, how it was trained, and what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData, model_info

from rl.config import Config
from rl.files.named_checkpoint import SHIPPED
from rl.monitoring.metrics_file import metric_rows

CARD_FILE = "README.md"
MEASURES = {
    "policy/accuracy": "share of right answers to held-out prompts",
    "mprm/auc_weighted": "AUC of step scores, within a kind of step, kinds weighted by their errors",
    "mprm/auc_weighted_reasoning": "the same of reasoning steps",
    "mprm/auc_within_kind": "the same area with all kinds alike",
    "mprm/auc_plain": "AUC of step scores, over all steps",
    "mprm/auc_index_only": "AUC of the step's index alone",
    "bench/auc": "AUC of step scores against people's labels",
}
ERRORS = {name: name.replace("auc_weighted", "auc_standard_error") for name in MEASURES if "auc_weighted" in name}
"""Of those that have one, the metric of their standard error."""
PRIVATE = {"output_dir", "judge.endpoint", "judge.api_key_env", "served.endpoint", "served.api_key_env"}
"""Keys of the machine and of the user, which no card shows."""
SECONDS_TO_ANSWER = 10
"""What the hub gets, when it is asked for a base model's licence."""


@dataclass(frozen=True)
class Subject:
    """What a card is about: the model's name, which part of a run it is, after how many policy steps."""

    name: str
    part: str
    run: Path
    step: int
    config: Config

    @property
    def base(self) -> str:
        """The checkpoint that it was trained from."""
        config = self.config
        return (self.part == "mprm" and config.mprm.checkpoint) or config.policy.checkpoint


def model_card(subject: Subject, license: str | None = None) -> str:
    """The card, in Markdown with the hub's metadata before it.

    Args:
        subject: What it is about.
        license: The model's; None for the base model's, where that is known.
    """
    base_license = license_of(subject.base)
    before, after = (measured(subject.run, step) for step in (0, subject.step))
    kind = "A vision-language policy" if subject.part == "policy" else "A multimodal process reward model (MPRM)"
    return "\n".join(
        [
            "---",
            _metadata(subject, license or base_license, after).to_yaml(),
            "---",
            "",
            f"# {subject.name}",
            "",
            f"{kind}, after {subject.step:,} policy steps of online reinforcement learning with Sieve.",
            "",
            "## Where it comes from",
            "",
            f"- base model: `{shown(subject.base)}`, licence {base_license or 'unknown'}",
            *(f"- {line}" for line in _data_lines(subject.config)),
            "",
            "## What was measured",
            "",
            *_measured_lines(subject.config, before, after),
            "",
            "## How to use it",
            "",
            *_usage_lines(subject),
            "",
            "## Settings",
            "",
            "Every key that is not at its default:",
            "",
            "```yaml",
            yaml.safe_dump(_changed(subject.config), sort_keys=False, allow_unicode=True).strip(),
            "```",
            "",
        ]
    )


def license_of(checkpoint: str) -> str | None:
    """The licence that a checkpoint's own card names, of a folder or on the hub; None where nobody says."""
    if checkpoint in SHIPPED:
        return "apache-2.0"
    try:
        if Path(checkpoint).is_dir():
            data = ModelCard.load(Path(checkpoint) / CARD_FILE, ignore_metadata_errors=True).data
        else:
            data = model_info(checkpoint, timeout=SECONDS_TO_ANSWER).card_data
    except Exception:  # no card, no hub, no network: none of them is worth the export
        return None
    found = getattr(data, "license", None)
    return found if isinstance(found, str) else None


def measured(run: Path, step: int) -> dict[str, tuple[float, int]]:
    """The latest value of each of `MEASURES` up to a policy step, with the step that it was measured after; of
    accuracy the ends of its interval, and of areas their standard errors, too.

    Raises:
        ConfigError: The run's metrics cannot be read.
    """
    found: dict[str, tuple[float, int]] = {}
    for row in metric_rows(run):
        if row["step"] <= step:
            known = [*MEASURES, *ERRORS.values(), "policy/accuracy_low", "policy/accuracy_high"]
            there = [name for name in known if math.isfinite(row.get(name, math.nan))]
            found |= {name: (row[name], int(row["step"])) for name in there}
    return found


def shown(name: str) -> str:
    """A checkpoint or a file as others may see it: without the folders of the machine that it lies on.

    >>> shown("/home/me/data/train.jsonl"), shown("Qwen/Qwen2.5-VL-3B-Instruct"), shown("hub:lmms-lab/MMMU:dev")
    ('train.jsonl', 'Qwen/Qwen2.5-VL-3B-Instruct', 'hub:lmms-lab/MMMU:dev')
    """
    return Path(name).name if name.startswith(("/", "~", ".")) else name


def _metadata(subject: Subject, license: str | None, values: Mapping[str, tuple[float, int]]) -> ModelCardData:
    config, base = subject.config, subject.base
    on_hub = base if "/" in base and not Path(base).exists() and base == shown(base) else None
    tables = [shown(name) for name in (*config.task.train_files, *config.task.heldout_files)]
    datasets = sorted({name.removeprefix("hub:").split("@")[0].split(":")[0] for name in tables if name[:4] == "hub:"})
    results = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=config.task.name,
            dataset_name=f"{', '.join(tables) or config.task.name}, held-out prompts",
            metric_type="accuracy" if name == "policy/accuracy" else "roc_auc",
            metric_name=MEASURES[name],
            metric_value=round(values[name][0], 4),
        )
        for name in MEASURES
        # Of this very model; what the table has may be of an earlier one.
        if name in values and values[name][1] == subject.step
        if name != "mprm/auc_index_only" and name.startswith("policy/") == (subject.part == "policy")
    ]
    return ModelCardData(
        model_name=subject.name,
        base_model=on_hub,
        license=license,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        datasets=datasets or None,
        tags=["sieve", "grpo" if subject.part == "policy" else "process-reward-model"],
        eval_results=results or None,
    )


def _data_lines(config: Config) -> list[str]:
    task, learner = config.task, config.learner
    where = {name: f"the procedural task `{name}`, difficulty {task.difficulty}" for name in ("grid", "beliefs")}
    trained = ", ".join(f"`{shown(name)}`" for name in task.train_files)
    heldout = ", ".join(f"`{shown(name)}`" for name in task.heldout_files)
    data = f"{trained}; held out: {heldout}" if trained else where.get(task.name, f"the task `{task.name}`")
    return [
        f"data: {data}; answers judged by `{task.verifier}`",
        f"a policy step: {learner.prompts} prompts, {learner.samples} rollouts each, `{learner.algorithm}` with the "
        f"credit rule `{learner.credit}`",
    ]


def _measured_lines(
    config: Config, before: Mapping[str, tuple[float, int]], after: Mapping[str, tuple[float, int]]
) -> list[str]:
    there = [name for name in MEASURES if name in after]
    if not there:
        return ["Nothing: the run had no evaluation."]
    rows = ["| | before | after | after policy step |", "|---|---|---|---|"]
    for name in there:
        start = f"{before[name][0]:.3f}" if name in before else ""
        value, step = after[name]
        if step == 0:
            rows.append(f"| {MEASURES[name]} | {start} | not measured | |")
            continue
        low, high = (after.get(f"{name}_{end}", (math.nan, -1)) for end in ("low", "high"))
        interval = f" ({low[0]:.3f} to {high[0]:.3f})" if low[1] == high[1] == step else ""
        error = after.get(ERRORS.get(name, ""), (math.nan, -1))
        interval += f" ± {error[0]:.3f}" if error[1] == step else ""
        rows.append(f"| {MEASURES[name]} | {start} | {value:.3f}{interval} | {step:,} |")
    samples = f"{config.evaluation.samples} answers each" if config.evaluation.samples > 1 else "one answer each"
    return [
        *rows,
        "",
        f"Measured by the run itself on {config.evaluation.prompts:,} held-out prompts, {samples}; of accuracy with a "
        "95 % bootstrap interval over prompts, of areas with a standard error.",
    ]


def _usage_lines(subject: Subject) -> list[str]:
    if subject.part == "mprm":
        return [
            "It scores each written step of an answer. Transformers loads the backbone; the head is Sieve's:",
            "",
            "    sieve eval prm --path VisualProcessBench --mprm FOLDER",
        ]
    task, engine = subject.config.task, subject.config.engine
    question = "QUESTION" + (f" + {task.instruction!r}" if task.instruction else "")
    turns = [f'{{"role": "system", "content": [{{"type": "text", "text": {task.system!r}}}]}}'] if task.system else []
    pictured = f'[{{"type": "image", "image": IMAGE}}, {{"type": "text", "text": {question}}}]'
    turns.append(f'{{"role": "user", "content": {pictured}}}')
    sampling = {"temperature": engine.temperature, "top_p": engine.top_p, "top_k": engine.top_k, "min_p": engine.min_p}
    given = ", ".join(f"{name}={value!r}" for name, value in sampling.items())
    return [
        "```python",
        "from transformers import AutoModelForImageTextToText, AutoProcessor",
        "",
        f'model = AutoModelForImageTextToText.from_pretrained("{subject.name}")',
        f'processor = AutoProcessor.from_pretrained("{subject.name}")',
        "conversation = [",
        *(f"    {turn}," for turn in turns),
        "]",
        "inputs = processor.apply_chat_template(",
        '    conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"',
        ")",
        f"# As it was sampled in training, for at most {engine.max_completion_tokens} tokens.",
        f"answer = model.generate(**inputs, do_sample=True, {given}, max_new_tokens={engine.max_completion_tokens})",
        "```",
    ]


def _changed(config: Config) -> dict[str, Any]:
    """The keys that are not at their defaults, as others may see them."""

    def differences(mine: Mapping[str, Any], default: Mapping[str, Any], section: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in mine.items():
            if isinstance(value, dict) and isinstance(default.get(key), dict) and default[key]:
                value = differences(value, default[key], f"{key}.")
                if value:
                    found[key] = value
            elif value != default.get(key) and f"{section}{key}" not in PRIVATE:
                found[key] = _for_others(value)
        return found

    return differences(config.model_dump(mode="json"), Config().model_dump(mode="json"))


def _for_others(value: Any) -> Any:
    if isinstance(value, list):
        return [_for_others(item) for item in value]
    return shown(value) if isinstance(value, str) else value
