"""What each worker will hold in memory, reckoned from the configuration and the models' shapes, in bytes.

An estimate from above: rows are reckoned as long as `engine.max_model_len` allows, and every prompt token as one of an
image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from rewards.section import AdamW
from rl.config import Config
from rl.instruments.planning.activations import FLOAT, Pass, activation_bytes
from rl.instruments.planning.model_shape import ModelShape, Tower
from rl.instruments.planning.transfer_memory import computed_width, receiving_bytes, sending_bytes

GB = 10**9
ADAM = 2 * FLOAT  # bytes of AdamW's two moments of one weight
PROCESS_ON_GPU = 1.0 * GB  # CUDA's context and its libraries' workspaces
PROCESS_ON_CPU = 0.9 * GB  # Python with PyTorch and Transformers
PREFILL_TOKENS = 8192  # that vLLM computes at once, and reserves memory for
CUDA_GRAPHS = 1.0 * GB


@dataclass(frozen=True)
class Memory:
    """Bytes of one process on one device.

    Attributes:
        weights: And what is gathered of them for one layer, where ranks share them.
        gradients, optimizer: Of what learns.
        cache: For keys and values, of an engine.
        activations: What a pass keeps at its peak, with bfloat16 copies of the weights where it makes them.
        transfer: What new weights take on their way to the engines, when gradients and activations are gone.
        other: The process itself.
    """

    weights: float = 0
    gradients: float = 0
    optimizer: float = 0
    cache: float = 0
    activations: float = 0
    transfer: float = 0
    other: float = 0

    @property
    def total(self) -> float:
        """The most at one time: in a step, or while new weights travel."""
        return self.at_rest + self.cache + max(self.gradients + self.activations, self.transfer)

    @property
    def at_rest(self) -> float:
        """What stays between two updates."""
        return self.weights + self.optimizer + self.other

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def learner_memory(config: Config, shape: ModelShape, critic: ModelShape | None = None) -> Memory:
    """Of one rank of the learner; ``critic`` is the shape of a value model of its own."""
    learner, engine = config.learner, config.engine
    width = computed_width(config)
    tokens = learner.micro_batch_tokens
    most = max(1, tokens // engine.max_model_len) if tokens else learner.micro_batch
    taken = Pass(
        rows=min(most, -(-learner.prompts * learner.samples // learner.ranks)),
        tokens=engine.max_model_len,
        image_tokens=engine.max_model_len - engine.max_completion_tokens,
        completion_tokens=engine.max_completion_tokens,
        learns="adapters" if learner.lora_rank else "language" if learner.freeze_vision else "all",
        width=width,
        checkpointing=learner.gradient_checkpointing,
        offload=learner.activation_offload,
    )
    ranks, sharding = learner.ranks, learner.sharding
    adam = learner.optimizer
    memory = trained_model(shape, learner.lora_rank, learner.freeze_vision, width, ranks, sharding, adam)
    if learner.kl:
        # A copy of what learns, as it was.
        learns = learning_parameters(shape, learner.lora_rank, learner.freeze_vision)
        memory += Memory(weights=FLOAT * learns / (1 if sharding == "ddp" else ranks))
    memory += Memory(
        activations=activation_bytes(shape, taken),
        transfer=sending_bytes(config, shape),
        other=_process(learner.num_gpus),
    )
    if learner.algorithm == "ppo" and config.value.backbone == "own":
        own = critic or shape
        memory += trained_model(own, 0, False, width, ranks, sharding, adam) + Memory(
            activations=activation_bytes(own, replace(taken, offload=False))
        )
    return memory


def mprm_memory(config: Config, shape: ModelShape, beside: int = 0) -> Memory:
    """Of one rank of the MPRM; ``beside`` counts the parameters of those that judge beside it."""
    mprm, engine = config.mprm, config.engine
    width = computed_width(config)
    taken = Pass(
        rows=max(1, mprm.micro_batch_tokens // engine.max_model_len),
        tokens=engine.max_model_len,
        image_tokens=engine.max_model_len - engine.max_completion_tokens,
        completion_tokens=engine.max_completion_tokens,
        learns="adapters" if mprm.lora_rank else "language" if mprm.freeze_vision else "all",
        width=width,
        autocast=False,
        logits="all" if mprm.likelihood else "none",
    )
    memory = trained_model(
        shape, mprm.lora_rank, mprm.freeze_vision, width, mprm.ranks, mprm.sharding, mprm.optimizer, autocast=False
    )
    process = _process(mprm.num_gpus)
    return memory + Memory(weights=width * beside, activations=activation_bytes(shape, taken), other=process)


def outcome_model_memory(config: Config, shape: ModelShape) -> Memory:
    """Of the outcome model, all of whose weights learn, in float32."""
    settings, engine = config.outcome_model, config.engine
    taken = Pass(
        rows=max(2, settings.micro_batch_tokens // engine.max_model_len),
        tokens=engine.max_model_len,
        image_tokens=engine.max_model_len - engine.max_completion_tokens,
        completion_tokens=engine.max_completion_tokens,
        learns="language" if settings.freeze_vision else "all",
        width=FLOAT,
        logits="none",
    )
    memory = trained_model(shape, 0, settings.freeze_vision, FLOAT, 1, "ddp")
    return memory + Memory(activations=activation_bytes(shape, taken), other=_process(settings.num_gpus))


def engine_memory(config: Config, shape: ModelShape, gpu_bytes: float) -> Memory:
    """Of an engine on one of its GPUs, of ``gpu_bytes``: vLLM takes `engine.gpu_memory_utilization` of the GPU, and
    whatever its weights and its largest pass leave of that is cache. On a CPU the cache is `engine.kv_cache_gib`.

    A ``cache`` below 0 means that the share is too small.
    """
    engine = config.engine
    width = computed_width(config)
    weights = width * shape.parameters / engine.tensor_parallel
    if engine.kind == "hf":
        full = width * shape.cache_numbers * engine.max_num_seqs * engine.max_model_len
        return Memory(weights=weights, cache=full, other=_process(engine.num_gpus))
    language = shape.language
    prefill = PREFILL_TOKENS * width * (4 * language.hidden + 3 * language.intermediate / engine.tensor_parallel)
    largest = prefill + 3 * FLOAT * engine.max_num_seqs * shape.vocabulary
    if not engine.num_gpus:
        return Memory(weights, cache=engine.kv_cache_gib * 2**30, activations=largest, other=_process(0))
    other = PROCESS_ON_GPU + CUDA_GRAPHS
    cache = engine.gpu_memory_utilization * gpu_bytes - weights - largest - other
    return Memory(weights, cache=cache, activations=largest, transfer=receiving_bytes(config, shape), other=other)


def cache_tokens(config: Config, shape: ModelShape, memory: Memory) -> int:
    """Tokens that an engine's cache holds."""
    width = computed_width(config)
    # Every GPU has the keys of some heads, and of one at least.
    shared = min(config.engine.tensor_parallel, shape.language.key_value_heads)
    return int(memory.cache / (width * shape.cache_numbers / shared))


def trained_model(
    shape: ModelShape,
    lora_rank: int,
    freeze_vision: bool,
    width: int,
    ranks: int,
    sharding: str,
    adam: AdamW = "adamw",
    autocast: bool = True,
) -> Memory:
    """Weights, gradients and optimizer of a model that learns, on one of its ranks. What learns is float32, and so is
    what is frozen beside it; under adapters the model has ``width`` bytes a number."""
    learns = learning_parameters(shape, lora_rank, freeze_vision)
    frozen = width * shape.parameters if lora_rank else FLOAT * (shape.parameters - learns)
    weights, gradients, optimizer = (
        FLOAT * learns + frozen,
        FLOAT * learns,
        _moments(shape, lora_rank, freeze_vision, adam),
    )
    if ranks > 1 and sharding != "ddp":  # FSDP2, or DeepSpeed's ZeRO of stage 3
        gathered = _gathered(shape.language)
        whole = 0 if lora_rank else FLOAT * gathered
        return Memory(weights / ranks + width * gathered, gradients / ranks + whole, optimizer / ranks)
    # Autocast keeps a copy of every matrix that it casts until the pass is over.
    copies = width * learns if autocast and width < FLOAT and not lora_rank else 0
    # DDP sends gradients in buckets, which are a second copy of them.
    return Memory(weights, gradients * (2 if ranks > 1 else 1), optimizer, activations=copies)


def loaded_bytes(config: Config, shape: ModelShape, lora_rank: int) -> float:
    """Of a model as it is read, before a GPU has it: float32, as what learns, but for what is under adapters."""
    return (computed_width(config) if lora_rank else FLOAT) * shape.parameters


def _moments(shape: ModelShape, lora_rank: int, freeze_vision: bool, adam: AdamW) -> float:
    """Bytes of the optimizer's two moments of all that learns."""
    if adam == "adamw":
        return ADAM * learning_parameters(shape, lora_rank, freeze_vision)
    from rewards.models.adamw import block_size

    def of(tower: Tower, parameters: int, *rows: int) -> float:
        """With the smallest of the blocks that its rows are cut into; none where some are not."""
        block = min(map(block_size, (tower.hidden, tower.intermediate, tower.query_width, *rows)))
        return parameters * (2 * (1 + FLOAT / block) if block else ADAM)

    language = shape.language
    if lora_rank:
        return of(language, language.adapter_parameters(lora_rank), lora_rank)
    return of(language, language.parameters) + (0 if freeze_vision else of(shape.vision, shape.vision.parameters))


def learning_parameters(shape: ModelShape, lora_rank: int, freeze_vision: bool) -> int:
    """Parameters that learn."""
    if lora_rank:
        return shape.language.adapter_parameters(lora_rank)
    return shape.language.parameters if freeze_vision else shape.parameters


def _gathered(tower: Tower) -> int:
    """Parameters that FSDP2 has whole at one time: two layers, since it fetches ahead, and all outside the layers."""
    layer = tower.layer_matrices
    return 2 * layer + tower.parameters - tower.layers * layer


def _process(num_gpus: float) -> float:
    return PROCESS_ON_GPU if num_gpus else PROCESS_ON_CPU
