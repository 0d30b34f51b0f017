"""``sieve train --dry-run``: everything is opened and looked at, and nothing started."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import redirect_stderr
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rl.commands.options import check
from rl.errors import ConfigError
from rl.files.quiet import quiet_stderr
from rl.monitoring.terminal import printable

if TYPE_CHECKING:
    from rewards.models.encoding import Encoder
    from rl.config import Config

USUAL_GPU_GB = 80.0


def show(config: Config, gpu_gb: float | None, gpus_per_node: int) -> None:
    """Print the resolved configuration, who runs where, what each GPU will hold, what ends an answer, and what is in
    the task's tables.

    Raises:
        ConfigError: An option is out of its range, a name stands for nothing, or the run does not fit the GPUs; or,
            after all that, it could not start: a shape is unknown, a table or a row of it cannot be read, a prompt does
            not fit, or the model sees no pictures, and there are some.
    """
    import yaml

    from rl.instruments.planning.launch_plan import estimate, plan_lines
    from rl.instruments.planning.memory_estimate import GB

    if gpu_gb is not None:
        check(0 < gpu_gb < math.inf, f"--gpu-gb {gpu_gb:g}: allowed is a finite number above 0")
    check(gpus_per_node >= 1, f"--gpus-per-node {gpus_per_node}: allowed is 1 or more")
    _find_own_parts(config)
    gpu_gb = gpu_gb or _visible_gpu_gb()
    opening = _Opening(config)
    lines = list(plan_lines(config, gpu_gb, gpus_per_node))
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    for line in chain(lines, opening.lines()):
        print(printable(line))
    unknown = estimate(config, gpu_gb * GB).unknown
    check(not unknown, f"{', '.join(unknown)}: its shape is unknown, so that nobody can say whether it fits")


class _Opening:
    """What a run would open. A published checkpoint whose shape is known is not fetched for that: a run is often
    planned elsewhere.

    Raises:
        ConfigError: The policy's processor cannot be opened.
    """

    def __init__(self, config: Config) -> None:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        from rl.files.named_checkpoint import make_encoder, policy_checkpoint
        from rl.instruments.planning.model_shape import KNOWN_SHAPES

        self._config, self._encoder = config, None
        name = config.policy.checkpoint
        is_planned = name in KNOWN_SHAPES and not isinstance(try_to_load_from_cache(name, "config.json"), str)
        self._closed = f"{name} is not in the hub's cache" if is_planned else ""
        if not is_planned:
            self._encoder = make_encoder(config)
            if not Path(policy_checkpoint(config)).is_dir():
                hf_hub_download(name, "config.json")  # for its shape

    def lines(self) -> Iterator[str]:
        """What ends an answer, and what is in the tables; then the reward models and the first prompts are opened."""
        from rl.config.api_keys import asked_elsewhere
        from rl.instruments.trying.rendering import answer_ends
        from rl.reward_models.mprm import check_mprm
        from rl.reward_models.outcome import check_outcome_model
        from rl.tasks.survey import survey_lines

        yield ""
        if self._encoder is None:
            yield f"the processor was not opened: {self._closed}"
        else:
            yield f"an answer ends with {' or '.join(answer_ends(self._encoder))}"
            if system := self._config.task.system:
                yield f"every prompt begins: {self._encoder.chat.opening([('system', system), ('user', '')])!r}"
            _check_weights(self._config, self._encoder)
            check_mprm(self._config)
            check_outcome_model(self._config)
        yield from asked_elsewhere(self._config)
        yield from survey_lines(self._config, self._opened)
        if self._encoder is not None:
            yield from _prompt_lines(self._config, self._encoder)

    def _opened(self) -> Encoder:
        if self._encoder is None:
            raise ConfigError(self._closed)
        return self._encoder


def _check_weights(config: Config, encoder: Encoder) -> None:
    """Whether the weights in the policy's folder are those of the model that its configuration describes, which has an
    embedding for each token that matters to it, and room for the longest row. They are not read for that.

    Raises:
        ConfigError: They are not; or there is no such model, or token, or room.
    """
    from rewards.models.architecture import check_longest_row
    from rewards.models.backbone import check_vocabulary, read_model
    from rl.files.named_checkpoint import opening, policy_checkpoint

    if Path(folder := policy_checkpoint(config)).is_dir():
        # Transformers has a report for the terminal, and a bar.
        named = config.policy.checkpoint
        with opening("policy.checkpoint", named), quiet_stderr(is_told=True), redirect_stderr(StringIO()):
            model = read_model(folder, trust_remote_code=config.policy.trust_remote_code, onto="meta")
            check_vocabulary(model, encoder.control_tokens)
            check_longest_row(model.config, config.engine.max_model_len)


def _prompt_lines(config: Config, encoder: Encoder) -> Iterator[str]:
    """On one prompt, with pictures if there are any among the first."""
    from rewards.records import PromptError
    from rl.engines.room import check_prompt
    from rl.instruments.trying.rendering import render
    from rl.monitoring.warnings import unseen_pictures
    from rl.reward_models.chat_templates import check_chat_templates, one_with_pictures
    from rl.tasks.making import make_task
    from rl.tasks.tables import HUB

    if any(name.startswith(HUB) for name in (*config.task.train_files, *config.task.heldout_files)):
        return  # all of it would be downloaded
    task = make_task(config, encoder)
    try:
        check_chat_templates(config, encoder, task)
        prompt = one_with_pictures(task) or task.prompt("train", 0)
        rendered = render(encoder, prompt)
        if config.engine.kind == "vllm":
            check_prompt(prompt, rendered.tokens, config.engine.max_model_len, config.engine.images_per_prompt)
    except PromptError as error:
        raise ConfigError(str(error)) from None
    of_pictures = sum(rendered.picture_tokens)
    yield f"prompt {prompt.id}: {rendered.tokens:,} tokens, {of_pictures:,} of them of {len(prompt.images)} picture(s)"
    if blind := unseen_pictures(len(prompt.images), of_pictures, config.policy.checkpoint):
        raise ConfigError(blind)


def _find_own_parts(config: Config) -> None:
    import numpy as np

    from rl.reward_models.credit import make_credit
    from rl.reward_models.lessons import make_configured_selector
    from rl.reward_models.mprm import make_label_rule
    from rl.tasks.making import make_added_rewards, make_verifier

    make_credit(config, np.zeros_like)
    make_verifier(config)
    make_added_rewards(config)
    make_configured_selector(config)
    make_label_rule(config)


def _visible_gpu_gb() -> float:
    """Memory of this machine's first GPU, in GB; 80 where there is none."""
    import torch

    if not torch.cuda.is_available():
        return USUAL_GPU_GB
    return torch.cuda.get_device_properties(0).total_memory / 10**9
