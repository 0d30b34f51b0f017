"""Which keys of a configuration contradict each other; each check names the key, its value, and what is allowed."""

from __future__ import annotations

from importlib.util import find_spec

from rewards.credit.token_rewards import TOKEN_REWARDS
from rewards.measuring.strategies import WITHOUT_JUDGE
from rl.config.learner import LearnerConfig
from rl.config.running import EvaluationConfig
from rl.config.schedules import make_schedule
from rl.config.sections import LEAST_ANSWER, Sections
from rl.config.trl_arguments import Sharding, check_trl_arguments

MOST_RANK = 512
"""Of adapters that vLLM takes."""
VLLM_TEMPERATURES = 0.01, 2.0
"""It refuses what is above, and samples at the bound what is below."""


def check_fit(config: Sections) -> None:
    """Whether the sections fit together.

    Raises:
        ValueError: They do not.
    """
    if config.task.name == "files" and not (config.task.train_files and config.task.heldout_files):
        raise ValueError("task.name is 'files': task.train_files and task.heldout_files must name files")
    least, most = config.task.min_pixels, config.task.max_pixels
    if least is not None and most is not None and least > most:
        raise ValueError(f"task.min_pixels is {least}: allowed is at most task.max_pixels, {most}")
    longest = config.engine.max_model_len - LEAST_ANSWER
    if (config.task.max_prompt_tokens or 0) > longest:
        raise ValueError(
            f"task.max_prompt_tokens is {config.task.max_prompt_tokens}: allowed with engine.max_model_len "
            f"{config.engine.max_model_len} is at most {longest}"
        )
    for section, endpoint in (("judge", config.judge), ("served", config.served)):
        if endpoint.endpoint is not None and not endpoint.model:
            raise ValueError(f"{section}.endpoint is set: {section}.model must name the model that it serves")
    outcome = config.outcome_model
    if outcome.reward != "rule" and not (outcome.checkpoint or outcome.pairs or outcome.harvest):
        raise ValueError(
            f"outcome_model.reward is {outcome.reward!r}: an outcome model that has learned nothing says 0.5 of "
            "everything; name outcome_model.checkpoint or outcome_model.pairs, or set outcome_model.harvest"
        )
    _check_delay(config)
    _check_inline(config)
    _check_gpus(config)
    _check_engine(config)
    _check_learner(config)
    _check_ppo(config)
    _check_mprm(config)
    _check_served(config)
    _check_without_mprm(config)
    _check_evaluation(config.evaluation)


def _check_delay(config: Sections) -> None:
    """Nothing waits for labels that come late; of credit rules, `rl.reward_models.credit` knows that."""
    for key in config.waits_for_counts if config.annotation.delay else ():
        raise ValueError(f"annotation.delay is {config.annotation.delay}: allowed with {key} is 0")


def _check_inline(config: Sections) -> None:
    if config.workers == "ray":
        return
    for key, value, allowed in (
        ("engine.kind", config.engine.kind, "hf"),
        ("engine.count", config.engine.count, 1),
        ("learner.ranks", config.learner.ranks, 1),
        ("mprm.ranks", config.mprm.ranks, 1),
    ):
        if value != allowed:
            raise ValueError(f"{key} is {value!r}: allowed with workers inline is {allowed}")


def _check_gpus(config: Sections) -> None:
    for section, gpus, ranks in (
        ("learner", config.learner.num_gpus, config.learner.ranks),
        ("mprm", config.mprm.num_gpus, config.mprm.ranks),
        ("outcome_model", config.outcome_model.num_gpus, 1),
    ):
        if gpus > 1:
            more = "" if section == "outcome_model" else f"; for more GPUs raise {section}.ranks"
            raise ValueError(f"{section}.num_gpus is {gpus:g}: allowed is at most 1{more}")
        if ranks > 1 and 0 < gpus < 1:
            raise ValueError(
                f"{section}.num_gpus is {gpus:g}: allowed with several ranks is a whole GPU for each, or 0"
            )


def _check_engine(config: Sections) -> None:
    engine = config.engine
    if engine.max_completion_tokens >= engine.max_model_len:
        raise ValueError(
            f"engine.max_completion_tokens is {engine.max_completion_tokens}: it must be below engine.max_model_len, "
            f"{engine.max_model_len}, which holds the prompt too"
        )
    if (config.task.overlong_tokens or 0) > engine.max_completion_tokens:
        raise ValueError(
            f"task.overlong_tokens is {config.task.overlong_tokens}: allowed is at most engine.max_completion_tokens, "
            f"{engine.max_completion_tokens}"
        )
    if engine.segment_tokens is not None and config.max_staleness == 0:
        raise ValueError(
            f"engine.segment_tokens is {engine.segment_tokens}: a rollout of several rounds outlives a weight update; "
            "allowed is null, or a max_staleness of 1 or more"
        )
    if engine.sleep and not (engine.kind == "vllm" and engine.num_gpus and config.max_staleness == 0):
        raise ValueError("engine.sleep is true: allowed is that with engine.kind vllm on a GPU and max_staleness 0")
    if engine.sleep and engine.num_gpus + config.learner.num_gpus > 1:
        raise ValueError(
            f"engine.sleep is true: engine.num_gpus {engine.num_gpus:g} and learner.num_gpus "
            f"{config.learner.num_gpus:g} are on different GPUs; allowed is at most 1 in sum, or false"
        )
    if engine.kind == "vllm" and not VLLM_TEMPERATURES[0] <= engine.temperature <= VLLM_TEMPERATURES[1]:
        raise ValueError(
            f"engine.temperature is {engine.temperature:g}: allowed with engine.kind vllm is "
            f"{VLLM_TEMPERATURES[0]:g} to {VLLM_TEMPERATURES[1]:g}"
        )
    if engine.tensor_parallel > 1 and engine.kind != "vllm":
        raise ValueError(f"engine.tensor_parallel is {engine.tensor_parallel}: allowed with engine.kind hf is 1")
    if engine.tensor_parallel > 1 and engine.num_gpus not in (0, engine.tensor_parallel):
        raise ValueError(
            f"engine.num_gpus is {engine.num_gpus:g}: allowed with engine.tensor_parallel {engine.tensor_parallel} is "
            "as many GPUs, or 0"
        )
    if engine.num_gpus > 1 and engine.num_gpus != engine.tensor_parallel:
        raise ValueError(
            f"engine.num_gpus is {engine.num_gpus:g}: allowed is at most 1, or as many as engine.tensor_parallel"
        )
    if engine.kind == "vllm" and engine.sync_adapters and config.learner.lora_rank > MOST_RANK:
        raise ValueError(
            f"learner.lora_rank is {config.learner.lora_rank}: allowed with engine.sync_adapters is at most {MOST_RANK}"
        )
    _check_weight_transfer(config)


def _check_weight_transfer(config: Sections) -> None:
    engine, learner = config.engine, config.learner
    route = engine.weight_transfer
    if route == "object_store":
        return
    if learner.sharding == "deepspeed":
        raise ValueError(
            f"engine.weight_transfer is {route!r}: allowed with learner.sharding deepspeed is object_store"
        )
    if engine.kind != "vllm":
        raise ValueError(f"engine.weight_transfer is {route!r}: allowed with engine.kind hf is object_store")
    if learner.lora_rank and config.weight_route != "adapters":
        raise ValueError(
            f"engine.weight_transfer is {route!r}: allowed with learner.lora_rank is object_store, or "
            "engine.sync_adapters true with policy.dtype bfloat16"
        )
    if route == "nccl" and min(engine.num_gpus, learner.num_gpus) < 1:
        raise ValueError(
            "engine.weight_transfer is 'nccl': it wants a whole GPU for each engine and learner rank; allowed is "
            "object_store, or ipc"
        )
    shares = engine.num_gpus > 0 and learner.num_gpus > 0 and engine.num_gpus + learner.num_gpus <= 1
    if route == "ipc" and not (shares and engine.count == learner.ranks == 1):
        raise ValueError(
            "engine.weight_transfer is 'ipc': it wants one engine that shares a GPU with one learner rank (num_gpus of "
            "both above 0, and at most 1 in sum); allowed is object_store, or nccl"
        )


def _check_learner(config: Sections) -> None:
    learner = config.learner
    if learner.sharding == "deepspeed" and config.engine.truncation.is_used:
        raise ValueError(
            "learner.sharding is 'deepspeed': allowed with engine.top_p, engine.top_k or engine.min_p, which want the "
            "whole head in the backward pass, is ddp or fsdp2"
        )
    check_settings(learner)
    if learner.schedule == "constant" and (learner.warmup_steps or learner.schedule_arguments):
        key = "warmup_steps" if learner.warmup_steps else "schedule_arguments"
        raise ValueError(
            f"learner.{key} is {getattr(learner, key)}: allowed with learner.schedule constant is nothing; "
            "constant_with_warmup begins with one"
        )
    make_schedule(learner, config.steps)
    if learner.reference_every and not learner.kl:
        raise ValueError(f"learner.reference_every is {learner.reference_every}: allowed is 0 where learner.kl is 0")
    if learner.credit == "monte_carlo" and not config.annotation.share:
        raise ValueError("annotation.share is 0: allowed with learner.credit monte_carlo, which reads counts, is more")
    if learner.reuse_continuations and (learner.algorithm == "ppo" or not config.annotation.share):
        raise ValueError(
            f"learner.reuse_continuations is true, learner.algorithm {learner.algorithm!r} and annotation.share "
            f"{config.annotation.share:g}: allowed are any algorithm but ppo, and a share above 0"
        )
    rollouts = learner.prompts * learner.samples
    if learner.ranks > rollouts:
        raise ValueError(f"learner.ranks is {learner.ranks}: allowed is one for each rollout of a step, {rollouts}")
    if learner.mini_batches * learner.ranks > rollouts:
        raise ValueError(
            f"learner.mini_batches is {learner.mini_batches}: allowed is a rollout for each mini-batch and rank, "
            f"{rollouts // learner.ranks} here"
        )


def _check_ppo(config: Sections) -> None:
    learner = config.learner
    if learner.algorithm != "ppo":
        return
    if ":" not in learner.credit and learner.credit not in TOKEN_REWARDS:
        raise ValueError(
            f"learner.credit is {learner.credit!r}: allowed with learner.algorithm ppo is "
            f"{', '.join(TOKEN_REWARDS)}, or package.module:name"
        )
    if not learner.separator_advantages:
        raise ValueError(
            "learner.separator_advantages is false: allowed with learner.algorithm ppo is true, since a step's reward "
            "stands on its last token"
        )
    if learner.sharding == "deepspeed":
        raise ValueError("learner.sharding is 'deepspeed': allowed with learner.algorithm ppo is ddp or fsdp2")
    if config.value.warm_up >= config.steps:
        raise ValueError(
            f"value.warm_up is {config.value.warm_up}: allowed is less than steps, {config.steps}, or the policy never "
            "learns"
        )
    if config.value.checkpoint is not None and config.value.backbone == "policy":
        raise ValueError(
            f"value.checkpoint is {config.value.checkpoint!r}: allowed with value.backbone policy is null, since it "
            "reads the policy itself"
        )


def _check_mprm(config: Sections) -> None:
    mprm, dtype = config.mprm, config.policy.dtype
    if mprm.likelihood and mprm.input_format != "rollout":
        raise ValueError(
            f"mprm.likelihood is true: allowed is false with mprm.input_format {mprm.input_format}, "
            "where the model reads what no policy wrote"
        )
    if mprm.verdicts[0] == mprm.verdicts[1]:
        raise ValueError(f"mprm.verdicts is {list(mprm.verdicts)}: allowed are two different words")
    if not any(mprm.class_weights):
        raise ValueError(f"mprm.class_weights is {list(mprm.class_weights)}: allowed is at most one 0")
    if dtype != "float32" and not mprm.lora_rank:
        raise ValueError(
            f"mprm.lora_rank is 0: most updates of a whole model are lost in policy.dtype {dtype}; allowed is 1 or "
            "more, or policy.dtype float32"
        )


def _check_served(config: Sections) -> None:
    """Nothing asks of a served reward model what only one of the run's own can do."""
    if config.served.endpoint is None:
        return
    mprm = config.mprm
    for key, value, fits, allowed in (
        ("mprm.enabled", mprm.enabled, mprm.enabled, "true"),
        ("mprm.until", mprm.until, mprm.until == 0, "0, since it learns nothing"),
        ("mprm.checkpoint", mprm.checkpoint, mprm.checkpoint is None, "null"),
        ("mprm.beside", list(mprm.beside), not mprm.beside, "none"),
        ("mprm.warm_start", list(mprm.warm_start), not mprm.warm_start, "none"),
        ("selection.selector", config.selection.selector, config.selection.selector != "bis_visual", "another"),
    ):
        if not fits:
            raise ValueError(
                f"{key} is {value!r}: allowed with served.endpoint, a reward model elsewhere, is {allowed}"
            )
    if not config.served.step_marker:
        raise ValueError("served.step_marker is '': allowed is what the model was trained with after each step")


def _check_without_mprm(config: Sections) -> None:
    """Nothing asks for the reward model of a run without one; of credit rules, `rl.reward_models.credit` knows that."""
    if config.mprm.enabled:
        return
    evaluation, other_judge = config.evaluation, config.outcome_model.is_used
    judged = [name for name in evaluation.strategies if name not in WITHOUT_JUDGE and not other_judge]
    for key, value, allowed in (
        ("annotation.share", config.annotation.share, "0"),
        ("mprm.warm_start", list(config.mprm.warm_start), "none"),
        ("mprm.beside", list(config.mprm.beside), "none"),
        ("evaluation.bench", evaluation.bench, "null"),
        ("evaluation.strategies", judged, f"{', '.join(sorted(WITHOUT_JUDGE))}; others want an outcome model"),
    ):
        if value:
            raise ValueError(f"{key} is {value!r}: allowed with mprm.enabled false is {allowed}")


def _check_evaluation(evaluation: EvaluationConfig) -> None:
    if evaluation.bench is None and (evaluation.bench_path or evaluation.bench_every):
        raise ValueError("evaluation.bench is null: allowed with bench_path or bench_every is the name of a benchmark")
    if evaluation.bench is not None and evaluation.bench_path is None:
        raise ValueError("evaluation.bench is set: evaluation.bench_path must name its folder")
    if evaluation.strategies_every and not evaluation.strategies:
        raise ValueError("evaluation.strategies is empty: allowed with strategies_every are names of strategies")


def check_packages(liger: bool, sharding: Sharding) -> None:
    """Whether what the settings want is installed.

    Raises:
        ValueError: One line that names the configuration's key, its value, and what is allowed.
    """
    if liger and find_spec("liger_kernel") is None:
        raise ValueError("learner.liger is true: the package liger-kernel is not installed; allowed is false")
    if sharding == "deepspeed" and find_spec("deepspeed") is None:
        raise ValueError(
            "learner.sharding is 'deepspeed': the package deepspeed is not installed; allowed is ddp or fsdp2"
        )


def check_settings(settings: LearnerConfig) -> None:
    """Whether settings fit together, and what they want is installed; cheap, to be asked before anything is made.

    Raises:
        ValueError: One line that names the configuration's key, its value, and what is allowed.
    """
    try:
        check_trl_arguments(settings.trl)
    except ValueError as error:
        raise ValueError(f"learner.trl.{error}") from None
    if settings.sharding == "deepspeed" and settings.optimizer != "adamw":
        raise ValueError(
            f"learner.optimizer is {settings.optimizer!r}: allowed with learner.sharding deepspeed is adamw"
        )
    check_packages(settings.liger, settings.sharding)
    if settings.sharding == "deepspeed" and (settings.kl or settings.lora_rank):
        wanted = "kl" if settings.kl else "lora_rank"
        raise ValueError(f"learner.sharding is 'deepspeed': allowed with learner.{wanted} above 0 is ddp or fsdp2")
    if settings.activation_offload and not settings.gradient_checkpointing:
        raise ValueError(
            "learner.activation_offload is true: allowed with learner.gradient_checkpointing false is false, since all "
            "that a layer keeps would travel"
        )
    if settings.loss == "vespo" and settings.correction.startswith("sequence"):
        raise ValueError(
            f"learner.correction is {settings.correction!r}: allowed with learner.loss vespo, which weighs whole "
            "rollouts itself, is none, token_truncate or token_mask"
        )
    if settings.correction_min >= settings.correction_max:
        raise ValueError(
            f"learner.correction_min is {settings.correction_min:g}: allowed is less than learner.correction_max, "
            f"{settings.correction_max:g}"
        )
