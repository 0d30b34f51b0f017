"""Whether the policy that a configuration names can have written a recorded stream."""

from __future__ import annotations

from transformers import AutoConfig

from rl.config import Config
from rl.files.named_checkpoint import make_encoder, policy_checkpoint
from rl.instruments.replay.stream import Stream


def check_written(config: Config, stream: Stream) -> None:
    """Whether all of it can be read as the policy's rollouts.

    Raises:
        ConfigError: It cannot; names file, row and column.
    """
    encoder = make_encoder(config)
    model = AutoConfig.from_pretrained(policy_checkpoint(config), trust_remote_code=config.policy.trust_remote_code)
    # A model may have room for more tokens than its tokenizer has.
    stream.check(model.get_text_config().vocab_size, encoder.placeholders, encoder.check_question)
