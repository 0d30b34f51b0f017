"""From prompts and completions to model inputs, with a checkpoint's own chat template and processor.

Used wherever a model reads a rollout: by the learner, the MPRM and the Transformers engine. All of them therefore see
the same tokens, left-padded prompts followed by right-padded completions, which is also the layout of TRL's trainers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoProcessor, GenerationConfig

from rewards.models.chat_template import ChatTemplate
from rewards.models.named_rules import LINE
from rewards.models.step_rule import StepRule
from rewards.models.steps import NO_MARKERS, Markers, separator_tokens, step_spans
from rewards.models.token_text import TokenReader, TokenText
from rewards.records import Prompt, PromptError, StepSpan

REMEMBERED = 2**30
"""Bytes of encoded prompts that are kept; the last one always is."""


@dataclass(frozen=True)
class Batch:
    """B prompts and completions as tensors.

    Attributes:
        prompt_ids, prompt_mask: (B, P), left-padded, image placeholders expanded.
        completion_ids, completion_mask: (B, T), right-padded.
        images: The processor's image tensors (``pixel_values``, ``image_grid_thw``, …), all images in order.
        token_types: What else the processor says of each token (``token_type_ids``, …), (B, P + T); over completions
            `Encoder.answer_type`.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    images: dict[str, torch.Tensor]
    token_types: dict[str, torch.Tensor]

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
        checkpoint: Folder or hub name of a Transformers checkpoint, of vision and language or of language alone.
        rule: Where written steps end.
        answer: Regular expression that begins the segment with the final answer, which is no step; None without one.
        trust_remote_code: Whether code shipped with the checkpoint may run.
        markers: What tells steps of perception from steps of reasoning.
        system: The system prompt before every question; empty for the chat template's own, if it has one.

    Attributes:
        sees: Whether the checkpoint reads pictures.
        chat: Its chat template.
        end_token: What ends an answer in the chat template.
        end_tokens: All that end one: this, the tokenizer's end of sequence, and what the checkpoint's generation
            configuration names. Both engines stop at each of them.
        fill_token: What stands where a row of a batch has nothing, and no model looks: the tokenizer's padding, unless
            `rewards.models.reading_check` finds that the model reads it as zeros.
        answer_type: Of an answer's tokens, where the processor tells types of tokens; `rewards.models.reading_check`
            asks the model.
    """

    def __init__(
        self,
        checkpoint: str,
        rule: StepRule = LINE,
        answer: str | None = "Answer:",
        trust_remote_code: bool = False,
        markers: Markers = NO_MARKERS,
        system: str = "",
    ) -> None:
        self.processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=trust_remote_code)
        # A language model has a tokenizer alone.
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.sees = hasattr(self.processor, "image_processor")
        self.chat = ChatTemplate(self.processor, self.sees)
        self.answer_type = 0
        of_sequences = self._ends_of_sequence(checkpoint)
        self.end_token = self._end_of_turn(of_sequences)
        self.end_tokens = frozenset({self.end_token, *of_sequences})
        self.pad_token: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.end_token
        self.fill_token = self.pad_token
        # A completion with one of these would be read as having one more of its kind: it is no answer, and is dropped.
        self.placeholders = self._placeholders(checkpoint, trust_remote_code)
        added = self.tokenizer.added_tokens_decoder.items()
        # Words that a small vocabulary does not know are no harm.
        self._special = {token for token, entry in added if entry.special and token != self.tokenizer.unk_token_id}
        self.markers, self.rule = markers, rule
        self.answer, self.system = answer, system
        # A separator may be a special token; the tokens that end or fill a sequence are no text anywhere.
        silent = {*self.end_tokens, self.pad_token}
        context = self.tokens("1")[-1:]
        self._plain = TokenReader(self.decode, context)
        self._with_special = TokenReader(
            lambda tokens: self._text([token for token in tokens if token not in silent], special=True), context
        )
        self._rows: OrderedDict[tuple[str, str | None], dict[str, torch.Tensor]] = OrderedDict()
        self._remembered = 0

    @property
    def control_tokens(self) -> set[int]:
        """Those that mean something to a model's machinery: what ends an answer, stands for pictures, or fills up."""
        return {*self.end_tokens, *self.placeholders, self.pad_token}

    def chat_text(self, prompt: Prompt) -> str:
        """The prompt in the checkpoint's chat template, up to the answer, with one placeholder an image.

        Raises:
            PromptError: See `check_question`; or the template fails.
        """
        self.check_question(prompt)
        system = [("system", self.system)] if self.system else []
        try:
            return self.chat.render([*system, ("user", prompt.question)], len(prompt.images), answer_follows=True)
        except Exception as error:  # a template is a program, and can fail in any way
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise PromptError(f"{prompt.id}: the checkpoint's chat template fails: {reason}") from error

    def check_question(self, prompt: Prompt) -> None:
        """Whether a prompt's question is text alone.

        Raises:
            PromptError: It spells a special token, which would end the turn, or stand for a picture.
        """
        if spelled := self._special_token(prompt.question):
            raise PromptError(
                f"{prompt.id}: its question holds {spelled!r}, a special token of this checkpoint; allowed is none"
            )

    def check_system_prompt(self, text: str) -> None:
        """Whether the chat template writes a system prompt as it is, before a picture, too.

        Raises:
            ValueError: It refuses one, or leaves it out, or the text spells a special token.
        """
        if spelled := self._special_token(text):
            raise ValueError(f"it holds {spelled!r}, a special token of the checkpoint; allowed is none")
        try:
            written = self.chat.render([("system", text), ("user", "<<question>>")], images=bool(self.placeholders))
        except Exception as error:  # templates refuse what they do not know in ways of their own
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint's chat template refuses a system prompt: {reason}") from None
        if text.strip() not in written.partition("<<question>>")[0]:
            raise ValueError("the checkpoint's chat template leaves out a system prompt")

    def _special_token(self, text: str) -> str | None:
        """The first special token that a text spells."""
        special = self._special.intersection(self.tokens(text))
        return self.tokenizer.convert_ids_to_tokens(min(special)) if special else None

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text alone, without any that the tokenizer would add around it."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def plain_tokens(self, text: str) -> list[int]:
        """The tokens of a text that may spell special tokens, as a policy's can, and must not become them."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """Prompt tokens with image placeholders not yet expanded, as vLLM takes them."""
        text = self.chat_text(prompt)
        return self.tokenizer(text, add_special_tokens=not self._has_begun(text))["input_ids"]

    def image_tokens(self, width: int, height: int) -> int:
        """Tokens that a picture of so many pixels becomes, with or without those that the processor writes around all
        pictures alike."""
        try:
            return int(self.processor._get_num_multimodal_tokens(image_sizes=[(height, width)])["num_image_tokens"][0])
        except (AttributeError, KeyError, TypeError):
            # SmolVLM's has to be shown one, and so has LLaVA's with the image processor of another family.
            prompt = Prompt(f"a picture of {width} x {height}", "", "", (Image.new("RGB", (width, height)),), "")
            return self.head_length(prompt) - len(self.prompt_tokens(prompt))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of completion tokens, without special tokens."""
        return self._text(token_ids, special=False)

    def _text(self, token_ids: Sequence[int], special: bool) -> str:
        return self.tokenizer.decode(
            list(token_ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )

    def read(self, token_ids: Sequence[int]) -> TokenText:
        """What `decode` gives, with the place where each token ends."""
        return self._plain.read(token_ids)

    def read_with_special(self, token_ids: Sequence[int]) -> TokenText:
        """As `read`, but special tokens are text, too, except those that end or fill a sequence: what is cut."""
        return self._with_special.read(token_ids)

    def steps(self, token_ids: Sequence[int]) -> tuple[StepSpan, ...]:
        """The written steps of a completion; see `rewards.models.steps.step_spans`."""
        return step_spans(self.read_with_special(token_ids), self.rule, self.answer, self.markers)

    def separators(self, token_ids: Sequence[int]) -> np.ndarray:
        """Which tokens of a completion only separate steps (T,), as booleans; see `separator_tokens`."""
        return separator_tokens(self.read_with_special(token_ids), self.rule, self.answer)

    def batch(
        self, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], heads: Sequence[str] | None = None
    ) -> Batch:
        """Encode B prompts and the tokens after them (of any lengths, possibly 0).

        ``heads`` are the texts to put before the tokens, instead of each prompt's own chat text; see
        `rewards.process_model.reading`.
        """
        fields = [self._row(prompt, heads[i] if heads else None) for i, prompt in enumerate(prompts)]
        names = dict.fromkeys(name for row in fields for name in row if name not in ("input_ids", "attention_mask"))
        # Some processors tell the types of tokens only where there is a picture.
        types = [n for n in names if all(row[n].shape == row["input_ids"].shape for row in fields if n in row)]
        ids = [row["input_ids"][0] for row in fields]
        none = [torch.zeros_like(row) for row in ids]
        tokens = {
            name: _pad([row[name][0] if name in row else none[i] for i, row in enumerate(fields)], 0, left=True)
            for name in types
        }
        prompt_ids = _pad(ids, self.fill_token, left=True)
        prompt_mask = _pad([torch.ones_like(row) for row in ids], 0, left=True)
        tokens = {name: tensor * prompt_mask for name, tensor in tokens.items()}
        answers = [torch.tensor(list(completion), dtype=torch.long) for completion in completions]
        completion_ids = _pad(answers, self.fill_token, left=False)
        return Batch(
            prompt_ids=prompt_ids,
            prompt_mask=prompt_mask,
            completion_ids=completion_ids,
            completion_mask=_pad([torch.ones_like(row) for row in answers], 0, left=False),
            images={name: _join([row[name] for row in fields if name in row]) for name in names if name not in types},
            token_types={
                name: torch.cat([tensor, torch.full_like(completion_ids, self.answer_type)], dim=1)
                for name, tensor in tokens.items()
            },
        )

    def blank_picture(self) -> dict[str, torch.Tensor]:
        """What the processor makes of a small white picture, for `rewards.models.backbone.BlankPicture`."""
        blank = Image.new("RGB", (64, 64), "white")
        return self.batch([Prompt("a blank picture", "", "", (blank,), "")], [()]).images

    def head_length(self, prompt: Prompt, head: str | None = None) -> int:
        """Tokens before the body, image placeholders expanded."""
        return int(self._row(prompt, head)["input_ids"].shape[1])

    def _row(self, prompt: Prompt, head: str | None) -> dict[str, torch.Tensor]:
        """A prompt through the processor on its own, so that every tensor's owner is known for any model family.

        The last ones are remembered, up to `REMEMBERED`: successive micro-batches mostly share them.

        Raises:
            PromptError: The processor cannot read it.
        """
        key = (prompt.id, head)
        if key not in self._rows:
            text = self.chat_text(prompt) if head is None else head
            images = {"images": list(prompt.images)} if prompt.images else {}
            if images and not self.sees:
                raise PromptError(f"{prompt.id}: the checkpoint reads no pictures, and the prompt has some")
            begin = not self._has_begun(text)
            try:
                row = self.processor(text=[text], **images, add_special_tokens=begin, return_tensors="pt")
            except Exception as error:  # processors raise many kinds, of images that are too narrow for example
                reason = " ".join(str(error).split())
                raise PromptError(f"{prompt.id}: the checkpoint's processor cannot read it: {reason}") from error
            row.pop("labels", None)  # PaliGemma's, of which a model would make a loss
            if listed := [name for name, value in row.items() if not isinstance(value, torch.Tensor)]:
                raise PromptError(f"{prompt.id}: the checkpoint's processor gives no tensor of {', '.join(listed)}")
            self._rows[key] = dict(row)
            self._remembered += _bytes(self._rows[key])
            while self._remembered > REMEMBERED and len(self._rows) > 1:
                self._remembered -= _bytes(self._rows.popitem(last=False)[1])
        self._rows.move_to_end(key)
        return self._rows[key]

    def _has_begun(self, text: str) -> bool:
        """Whether the chat template wrote the token that begins a sequence; else that is the tokenizer's to do."""
        return self.tokenizer.bos_token is not None and text.startswith(self.tokenizer.bos_token)

    def _end_of_turn(self, others: Sequence[int]) -> int:
        """The special token that ends an answer in the chat template, in Gemma 3 another one than ends a sequence; else
        the first of the others.

        Raises:
            ValueError: There is none.
        """
        _, _, after = self.chat.render([("user", "<<question>>"), ("assistant", "<<answer>>")]).partition("<<answer>>")
        tokens = self.tokens(after)
        if tokens and not self.decode(tokens[:1]):
            return tokens[0]
        if not others:
            raise ValueError(
                "nothing ends an answer: no special token of the chat template, no eos_token of the tokenizer's, and "
                "none in generation_config.json; allowed is any of them"
            )
        return others[0]

    def _placeholders(self, checkpoint: str, trust_remote_code: bool) -> set[int]:
        """The tokens that stand for pictures, videos and sound, wherever they are named: Gemma 3 has one for a picture
        in text, the processor's, and one for each part of it, the tokenizer's; Llama 4's parts are the model's alone,
        and so are Ovis 2's frames around them."""
        owners = [self.processor, self.tokenizer]
        with suppress(OSError, ValueError):  # adapters of a saved reward model have none
            owners.append(AutoConfig.from_pretrained(checkpoint, trust_remote_code=trust_remote_code))
        names = [f"{kind}_token_{what}" for kind in ("image", "video", "audio") for what in ("id", "index")]
        found = {getattr(owner, name, None) for owner in owners for name in names}
        frames = (getattr(owner, "visual_indicator_token_ids", ()) for owner in owners)
        return {token for token in (*found, *chain(*frames)) if token is not None}

    def _ends_of_sequence(self, checkpoint: str) -> list[int]:
        """What ends an answer by the tokenizer's and the checkpoint's files, which often name another token than the
        chat template does.

        Raises:
            ValueError: The generation configuration names none by its number.
        """
        try:
            named = GenerationConfig.from_pretrained(checkpoint).eos_token_id
        except OSError:  # it has no such file
            named = None
        listed = named if isinstance(named, list) else [named]
        if wrong := [token for token in listed if token is not None and (type(token) is not int or token < 0)]:
            raise ValueError(
                f"its generation_config.json has eos_token_id {wrong[0]!r}; allowed is the number of a token, or a list"
            )
        return [token for token in (self.tokenizer.eos_token_id, *listed) if token is not None]


def _bytes(row: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in row.values())


def _pad(rows: Sequence[torch.Tensor], value: int, left: bool) -> torch.Tensor:
    """Stack 1-d tensors of different lengths."""
    return torch.nn.utils.rnn.pad_sequence(
        list(rows), batch_first=True, padding_value=value, padding_side="left" if left else "right"
    )


def _join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors of pictures one after another; zeros fill up those of fewer tiles or pixels than others.

    >>> _join([torch.ones(1, 2), torch.ones(2, 1)]).tolist()
    [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    """
    size = [max(lengths) for lengths in zip(*(part.shape[1:] for part in parts), strict=True)]
    whole = parts[0].new_zeros(sum(map(len, parts)), *size)
    for rows, part in zip(whole.split([len(part) for part in parts]), parts, strict=True):
        rows[tuple(slice(length) for length in part.shape)] = part
    return whole
