"""From prompts and completions to model inputs, with a checkpoint's own chat template and processor.

Used wherever a model reads a rollout: by the learner, the MPRM and the Transformers engine. All of them therefore see
the same tokens, left-padded prompts followed by right-padded completions, which is also the layout of TRL's trainers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoProcessor

from rewards.records import Prompt, StepSpan
from rewards.steps import decode_pieces, step_spans

TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


@dataclass(frozen=True)
class Batch:
    """B prompts and completions as tensors.

    Attributes:
        prompt_ids, prompt_mask: (B, P), left-padded, image placeholders expanded.
        completion_ids, completion_mask: (B, T), right-padded.
        images: The processor's image tensors (``pixel_values``, ``image_grid_thw``, …), all images in order.
        token_types: The processor's token type tensors, (B, P + T), zero over the completions.
        num_images: Images of each prompt, B integers.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    images: dict[str, torch.Tensor]
    token_types: dict[str, torch.Tensor]
    num_images: list[int]

    def model_inputs(self, device: torch.device | str = "cpu") -> dict[str, torch.Tensor]:
        """Keyword arguments of a Transformers image-text-to-text model's forward pass."""
        inputs = {
            "input_ids": torch.cat([self.prompt_ids, self.completion_ids], dim=1),
            "attention_mask": torch.cat([self.prompt_mask, self.completion_mask], dim=1),
            **self.images,
            **self.token_types,
        }
        return {name: tensor.to(device) for name, tensor in inputs.items()}


class Encoder:
    """A checkpoint's processor, as the rest of the project needs it.

    Args:
        checkpoint: Folder or hub name of a Transformers vision-language checkpoint.
        separator: Regular expression between written steps.
        answer: Regular expression that begins the segment with the final answer, which is no step; None without one.
        trust_remote_code: Whether code shipped with the checkpoint may run.
    """

    def __init__(
        self, checkpoint: str, separator: str = r"\n", answer: str | None = "Answer:", trust_remote_code: bool = False
    ) -> None:
        self.processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
        self.tokenizer = self.processor.tokenizer
        self.end_token: int = self.tokenizer.eos_token_id
        self.pad_token: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_token
        placeholders = [getattr(self.processor, f"{kind}_token_id", None) for kind in ("image", "video")]
        # A completion with one of these would be read as having one more image: it is no answer, and is dropped.
        self.placeholders: set[int] = {token for token in placeholders if token is not None}
        self._separator, self._answer = separator, answer
        self._encoded: dict[str, dict[str, torch.Tensor]] = {}

    def chat_text(self, prompt: Prompt) -> str:
        """The prompt in the checkpoint's chat template, with one placeholder an image."""
        content: list[dict[str, str]] = [{"type": "image"} for _ in prompt.images]
        messages = [{"role": "user", "content": [*content, {"type": "text", "text": prompt.question}]}]
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Prompt tokens with image placeholders not yet expanded, as vLLM takes them."""
        return self.tokenizer(self.chat_text(prompt), add_special_tokens=False)["input_ids"]

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of completion tokens, without special tokens."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def steps(self, token_ids: Sequence[int]) -> tuple[StepSpan, ...]:
        """The written steps of a completion; see `rewards.steps.step_spans`."""
        return step_spans(
            decode_pieces(token_ids, self.tokenizer.decode, self.end_token), self._separator, self._answer
        )

    def batch(self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]]) -> Batch:
        """Encode B prompts and their completions (of any lengths, possibly 0); a prompt's images are processed once."""
        rows = self._encode({prompt.id: prompt for prompt in prompts})
        fields = [rows[prompt.id] for prompt in prompts]
        token_names = [name for name in ("input_ids", *TOKEN_TYPES) if name in fields[0]]
        tokens = {name: _pad([row[name][0] for row in fields], self.pad_token, left=True) for name in token_names}
        prompt_ids = tokens.pop("input_ids")
        prompt_mask = _pad([torch.ones_like(row["input_ids"][0]) for row in fields], 0, left=True)
        tokens = {name: tensor * prompt_mask for name, tensor in tokens.items()}
        ids = [torch.tensor(list(completion), dtype=torch.long) for completion in completions]
        completion_ids = _pad(ids, self.pad_token, left=False)
        return Batch(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            completion_ids=completion_ids,
            completion_mask=_pad([torch.ones_like(row) for row in ids], 0, left=False),
            images={
                name: torch.cat([row[name] for row in fields if name in row])
                for name in fields[0]
                if name not in (*token_names, "attention_mask")
            },
            token_types={
                name: torch.cat([tensor, torch.zeros_like(completion_ids)], dim=1) for name, tensor in tokens.items()
            },
            num_images=[len(prompt.images) for prompt in prompts],
        )

    def _encode(self, prompts: dict[str, Prompt]) -> dict[str, dict[str, torch.Tensor]]:
        """Each prompt through the processor on its own, so that every tensor's owner is known for any model family.

        The previous call's prompts are remembered, no more: successive micro-batches mostly share them.
        """
        known = self._encoded
        self._encoded = {
            key: known[key]
            if key in known
            else dict(
                self.processor(text=[self.chat_text(prompt)], images=list(prompt.images) or None, return_tensors="pt")
            )
            for key, prompt in prompts.items()
        }
        return self._encoded


def _pad(rows: Sequence[torch.Tensor], value: int, left: bool) -> torch.Tensor:
    """Stack 1-d tensors of different lengths."""
    return torch.nn.utils.rnn.pad_sequence(
        list(rows), batch_first=True, padding_value=value, padding_side="left" if left else "right"
    )
