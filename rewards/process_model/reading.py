r"""How a reward model reads a rollout: three input formats, each a head (the prompt, with its images) and body tokens.

`rollout`: as the policy wrote it, in the policy's own chat; a step's score is read at its last token.
`chat` (VisualPRM, arXiv 2503.10291, section 4, and its code): a system prompt; then each user turn adds a step, the
    first one after the question, and the model answers '+' or '-'; the score is read where that answer begins. Every
    earlier answer reads '+', in training as in scoring, so that a score depends on the steps alone and one pass gives
    them all.
`inline` (published BIS, arXiv 2602.04145, and its code): after a user's turn that is empty, the assistant's turn holds
    the pictures and ``Question: Q\nProcess: S1<prm>\n\nS2<prm>``, read at each ``<prm>``. The published training texts
    have that blank line; the published script for VisualProcessBench leaves it out.

The model is causal: in all three a score depends on nothing after the place it is read at.

`rollout` reads the policy's tokens, and so wants the policy's vocabulary. `chat` and `inline` read what the steps say,
in the tokens of whichever model reads: its family and its tokenizer need not be the policy's. Each step has one place
to be read at, so that scores come in the order of the policy's own steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rewards.models.encoding import Encoder
from rewards.models.steps import step_texts
from rewards.process_model.config import InputFormat
from rewards.records import Prompt, Rollout


@dataclass(frozen=True)
class Reading:
    """One rollout as a reward model's input.

    Attributes:
        prompt: Whose images the head stands for.
        head: Text before the tokens, in the checkpoint's chat template, with one placeholder an image.
        token_ids: The tokens (T,) after the head.
        ends: Where in them the score of each step is read (K,).
    """

    prompt: Prompt
    head: str
    token_ids: tuple[int, ...]
    ends: tuple[int, ...]


Reader = Callable[[Prompt, Rollout], Reading]
Decode = Callable[[Sequence[int]], str]
"""The text of a rollout's tokens."""

SYSTEM_PROMPT = """\
You are an advanced AI assistant, designed to serve as a process supervision model. In this task, I will provide a \
problem statement followed by the first step of the solution process. For each subsequent turn, I will give you a new \
step in the solution. Your role is to assess whether the solution process is correct up to the current step.

- In the **first round**, I will input the problem and the first step of the solution process.
- In **each subsequent round**, I will provide the next step in the solution.

For each step, you should:

- Respond with **"+"** if you believe the solution process is correct up to this step.
- Respond with **"-"** if you detect any issues or errors in the process up to this step.

Please note:
- Only respond with **"+"** or **"-"**. Do not provide any additional explanations, comments, or justifications.

Your task is to verify the accuracy and correctness of each step in the given solution process."""
"""VisualPRM's, with which it was trained (OpenGVLab/InternVL, commit 2410d1d, ``PRM_SYSTEM_PROMPT``)."""


def make_reader(
    input_format: InputFormat,
    encoder: Encoder,
    step_marker: str = "<prm>",
    verdict: str = "+",
    decode: Decode | None = None,
) -> Reader:
    """The reader of a format.

    Args:
        input_format: Which.
        encoder: Of the model that reads.
        step_marker: Of `inline`: what ends a step; one token of the vocabulary.
        verdict: Of `chat`: the answer to earlier steps.
        decode: Of `chat` and `inline`: the policy's, where its vocabulary is another than the encoder's.

    Raises:
        ValueError: The checkpoint's chat template does not keep the parts of a conversation apart, or knows no system
            prompt, or the step marker is not one token.
    """
    if input_format == "rollout":
        return lambda prompt, rollout: Reading(
            prompt, encoder.chat_text(prompt), rollout.token_ids, tuple(span.end - 1 for span in rollout.steps)
        )
    if input_format == "chat":
        return _chat_reader(encoder, verdict, decode or encoder.decode)
    return _inline_reader(encoder, step_marker, decode or encoder.decode)


def _chat_reader(encoder: Encoder, verdict: str, decode: Decode) -> Reader:
    ask, go_on = _between_turns(encoder)
    encoder.check_system_prompt(SYSTEM_PROMPT)
    ask_tokens, turn = encoder.tokens(ask), encoder.tokens(verdict) + encoder.tokens(go_on)

    def read(prompt: Prompt, rollout: Rollout) -> Reading:
        encoder.check_question(prompt)
        text = f"### Question:\n{prompt.question}\n\n### Solution Process:\n"
        head = encoder.chat.opening([("system", SYSTEM_PROMPT), ("user", text)], len(prompt.images))
        tokens: list[int] = []
        ends: list[int] = []
        for step in map(str.strip, step_texts(rollout, decode)):
            tokens += [*(turn if tokens else []), *encoder.plain_tokens(step), *ask_tokens]
            ends.append(len(tokens) - 1)
        return Reading(prompt, head, tuple(tokens), tuple(ends))

    return read


def _inline_reader(encoder: Encoder, step_marker: str, decode: Decode) -> Reader:
    marker = encoder.tokens(step_marker)
    if len(marker) != 1:
        raise ValueError(f"the step marker {step_marker!r} is {len(marker)} tokens of this checkpoint; allowed is one")

    def read(prompt: Prompt, rollout: Rollout) -> Reading:
        encoder.check_question(prompt)
        text = f"{encoder.chat.pictures(len(prompt.images))}Question: {prompt.question}\nProcess:"
        head = encoder.chat.opening([("user", ""), ("assistant", text)])
        tokens: list[int] = []
        ends: list[int] = []
        for step in map(str.strip, step_texts(rollout, decode)):
            # The blank before the first step belongs to it, as most vocabularies have words.
            before = "\n\n" if tokens else " "
            tokens += [*encoder.plain_tokens(before + step), *marker]
            ends.append(len(tokens) - 1)
        return Reading(prompt, head, tuple(tokens), tuple(ends))

    return read


def _between_turns(encoder: Encoder) -> tuple[str, str]:
    """What the chat template puts between a user's text and the answer to it, and between that and the next text."""
    texts = ["<<first>>", "<<answer>>", "<<second>>"]
    roles = ["user", "assistant", "user"]
    rendered = encoder.chat.render([(role, text) for role, text in zip(roles, texts, strict=True)])
    places = [rendered.find(text) for text in texts]
    if -1 in places or places != sorted(places):
        raise ValueError("the checkpoint's chat template cannot hold a conversation of several turns")
    ends = [place + len(text) for place, text in zip(places, texts, strict=True)]
    return rendered[ends[0] : places[1]], rendered[ends[1] : places[2]]
