"""Qwen2.5-VL, InternVL and Gemma 3 as reward models: their real classes and processors, with tiny random weights.

Every family meets every head and every input format, and every head every format, in nine of the 27 combinations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.models.backbone import load_model
from rewards.models.encoding import Encoder
from rewards.models.runtime import Runtime
from rewards.process_model.complexity import feature_entropy, image_features
from rewards.process_model.config import Head, InputFormat, MPRMConfig
from rewards.process_model.mprm import MPRM, open_mprm
from rewards.process_model.reading import SYSTEM_PROMPT
from rewards.records import Annotated, Prompt, Rollout, StepCounts
from tests.fixtures.builders import a_rollout
from tests.fixtures.tiny_families import FAMILIES, write_tiny_checkpoint

pytestmark = pytest.mark.slow

HEADS, FORMATS = get_args(Head), get_args(InputFormat)
COMBINATIONS = [
    (family, head, FORMATS[(i + j) % len(FORMATS)]) for i, family in enumerate(FAMILIES) for j, head in enumerate(HEADS)
]
CLOSE = 1e-4
ANSWERS = (
    "1: a dog, right.\n2: two dogs, wrong.\nAnswer: 2",
    "1: a cat, wrong.\n2: no cat, wrong.\n3: red, right.\nAnswer: 1",
    "1: right.\nAnswer: 0",
)


def a_picture(width: int, height: int, seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# One picture, two of other shapes, one, none.
PROMPTS = [
    Prompt("one", "s", "How many dogs?", (a_picture(56, 56, 0),), "2"),
    Prompt("two", "s", "Which of them has more cats than dogs?", (a_picture(160, 40, 1), a_picture(50, 90, 2)), "1"),
    Prompt("small", "s", "Is it red? ", (a_picture(31, 30, 3),), "0"),
    Prompt("none", "s", "What is 1 + 1?", (), "2"),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a family's tiny checkpoint, written when it is first asked for."""
    written: dict[str, str] = {}

    def folder(family: str) -> str:
        if family not in written:
            written[family] = write_tiny_checkpoint(family, tmp_path_factory.mktemp(family))
        return written[family]

    return folder


def a_written(encoder: Encoder, prompt: Prompt, text: str) -> Rollout:
    tokens = (*encoder.tokens(text), encoder.end_token)
    return replace(a_rollout([], prompt=prompt.id, tokens=tokens), text=text, steps=encoder.steps(tokens))


def some_lessons(encoder: Encoder) -> list[Annotated]:
    """Each answer to each prompt; a step is right as far as it says so, and the last one of the longest is missing."""
    lessons = []
    for prompt in PROMPTS:
        for text in ANSWERS:
            rollout = a_written(encoder, prompt, text)
            steps = text.split("\n")[:-1]
            assert len(rollout.steps) == len(steps)
            sampled = np.array([0 if "red" in step else 4 for step in steps])
            correct = np.minimum([3 if "right" in step else 0 for step in steps], sampled)
            lessons.append(Annotated(prompt, rollout, StepCounts(correct, sampled, 0)))
    return lessons


def scores_of(mprm: MPRM, lessons: list[Annotated]) -> list[np.ndarray]:
    entries = mprm.score([lesson.prompt for lesson in lessons], [lesson.rollout for lesson in lessons])
    return [entry.scores for entry in entries]


def trained(
    folder: str, head: Head = "token", input_format: InputFormat = "rollout", dtype: str = "float32", **more: Any
) -> tuple[Any, ...]:
    """A reward model after six updates, what it was taught, and the losses on the way."""
    encoder = Encoder(folder)
    settings = MPRMConfig(
        head=head,
        input_format=input_format,
        likelihood=input_format == "rollout",
        learning_rate=3e-3,
        batch_size=6,
        **more,
    )
    torch.manual_seed(0)
    mprm = open_mprm(folder, encoder, settings, Runtime(dtype))
    lessons = some_lessons(encoder)
    return mprm, lessons, [mprm.train(lessons)["loss"] for _ in range(6)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chosen", [PROMPTS, PROMPTS[:2], PROMPTS[3:], PROMPTS[:1] * 3], ids=len)
def test_the_encoder_gives_what_the_familys_own_processor_gives(
    family: str, chosen: list[Prompt], checkpoint: Callable[[str], str]
) -> None:
    """All prompts at once through the processor's own chat, against ours one by one, put together."""
    encoder = Encoder(checkpoint(family))
    chats = []
    for prompt in chosen:
        content = [{"type": "image", "image": image} for image in prompt.images]
        chats.append([{"role": "user", "content": [*content, {"type": "text", "text": prompt.question}]}])
    expected = encoder.processor.apply_chat_template(
        chats,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"padding": True, "padding_side": "left", "return_tensors": "pt"},
    )
    batch = encoder.batch(chosen, [()] * len(chosen))
    inputs = batch.model_inputs()
    assert set(inputs) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(inputs[name], tensor), name
    with_answers = encoder.batch(chosen, [(65, 66, 67)[:place] for place in range(len(chosen))])
    longer = with_answers.model_inputs()
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in expected:
            assert longer[name].shape == longer["input_ids"].shape
            assert not longer[name][:, batch.prompt_ids.shape[1] :].any(), "an answer holds no image"


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_for_the_engine_are_those_of_the_processor_with_one_placeholder_a_picture(
    family: str, checkpoint: Callable[[str], str]
) -> None:
    encoder = Encoder(checkpoint(family))
    for prompt in PROMPTS:
        short, long = encoder.prompt_tokens(prompt), encoder.batch([prompt], [()]).prompt_ids[0].tolist()
        assert sum(token in encoder.placeholders for token in short) == len(prompt.images)
        assert short == long if not prompt.images else len(short) <= len(long)
        assert (short[:3], short[-5:]) == (long[:3], long[-5:])


def test_what_stands_for_something_seen_or_heard_is_no_answer(checkpoint: Callable[[str], str]) -> None:
    """Gemma 4 hears, too: Transformers reads such a token of an answer as sound, and vLLM as text."""
    encoder = Encoder(checkpoint("gemma4"))
    ids = encoder.tokenizer.convert_tokens_to_ids
    assert encoder.placeholders == {ids("<|image|>"), ids("<|audio|>"), encoder.processor.video_token_id}


@pytest.mark.parametrize(
    ("family", "end", "others"),
    [
        ("qwen2_5_vl", "<|im_end|>", {"<|endoftext|>"}),
        ("internvl", "<|im_end|>", set()),
        ("gemma3", "<end_of_turn>", {"<eos>"}),
        ("gemma4", "<turn|>", {"<eos>"}),
        ("smolvlm", "<end_of_utterance>", set()),
        ("llava", "</s>", set()),
        ("mistral3", "</s>", set()),
        # Its chat has nothing after an answer but the next turn.
        ("glm4v", "<|endoftext|>", {"<|user|>"}),
        ("qwen3", "<|im_end|>", set()),
    ],
)
def test_an_answer_ends_with_its_turn(
    family: str, end: str, others: set[str], checkpoint: Callable[[str], str]
) -> None:
    encoder = Encoder(checkpoint(family))
    assert encoder.tokenizer.convert_ids_to_tokens(encoder.end_token) == end
    assert {*encoder.tokenizer.convert_ids_to_tokens(sorted(encoder.end_tokens))} == {end, *others}
    rollout = a_written(encoder, PROMPTS[0], "1: a\n2: b\n\n")
    assert [encoder.decode(rollout.token_ids[span.start : span.end]) for span in rollout.steps] == [
        "1: a\n",
        "2: b\n\n",
    ]


@pytest.mark.parametrize(("family", "head", "input_format"), COMBINATIONS)
def test_it_learns_scores_and_goes_on_from_a_checkpoint(
    family: str, head: Head, input_format: InputFormat, checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    mprm, lessons, losses = trained(checkpoint(family), head, input_format)
    assert losses[-1] < 0.9 * losses[0]
    together = scores_of(mprm, lessons)
    for lesson, scores in zip(lessons, together, strict=True):
        assert scores.shape == (len(lesson.rollout.steps),)
        assert ((scores >= 0) & (scores <= 1)).all()
    assert np.std(np.concatenate(together)) > 100 * CLOSE, "or the comparisons below would say nothing"

    alone = [scores_of(mprm, [lesson])[0] for lesson in lessons]
    for left, right in zip(together, alone, strict=True):
        np.testing.assert_allclose(left, right, atol=CLOSE)
    for lesson, scores in zip(lessons, together, strict=True):
        for count, span in enumerate(lesson.rollout.steps, 1):
            tokens, steps = lesson.rollout.token_ids[: span.end], lesson.rollout.steps[:count]
            cut = replace(lesson, rollout=replace(lesson.rollout, token_ids=tokens, steps=steps))
            np.testing.assert_allclose(scores_of(mprm, [cut])[0], scores[:count], atol=CLOSE)

    mprm.save(tmp_path)
    again = open_mprm(
        str(tmp_path), Encoder(str(tmp_path)), mprm.settings.model_copy(update={"head": "token", "likelihood": False})
    )
    assert (again.version, again.settings) == (6, mprm.settings)
    np.testing.assert_array_equal(np.concatenate(scores_of(again, lessons)), np.concatenate(together))
    assert again.train(lessons) == mprm.train(lessons)
    left, right = scores_of(again, lessons), scores_of(mprm, lessons)
    np.testing.assert_array_equal(np.concatenate(left), np.concatenate(right))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("input_format", ["rollout", "chat"])
@torch.inference_mode()
def test_scores_are_what_the_model_says_at_the_end_of_its_own_chat(
    family: str, input_format: InputFormat, checkpoint: Callable[[str], str]
) -> None:
    """Against Transformers alone: the conversation up to each step in the family's chat, and its next-token odds."""
    folder = checkpoint(family)
    encoder, model = Encoder(folder), load_model(folder).eval()
    mprm = open_mprm(folder, encoder, MPRMConfig(head="token", input_format=input_format, likelihood=False))
    lessons = [lesson for lesson in some_lessons(encoder) if lesson.prompt.id in ("two", "none")]
    plus, minus = encoder.tokens("+")[0], encoder.tokens("-")[0]
    for lesson, scores in zip(lessons, scores_of(mprm, lessons), strict=True):
        pictures = [{"type": "image", "image": image} for image in lesson.prompt.images]
        steps = lesson.rollout.text.split("\n")[:-1]
        for count, score in enumerate(scores, 1):
            if input_format == "rollout":
                texts, answer = [lesson.prompt.question], "".join(step + "\n" for step in steps[:count])
            else:
                opening = f"### Question:\n{lesson.prompt.question}\n\n### Solution Process:\n"
                texts, answer = [opening + steps[0], *steps[1:count]], ""
            turns: list[dict[str, Any]] = []
            for text in texts:
                turns += [{"role": "assistant", "content": "+"}] if turns else []
                turns.append(
                    {"role": "user", "content": [*([] if turns else pictures), {"type": "text", "text": text}]}
                )
            if input_format == "chat":
                turns.insert(0, {"role": "system", "content": [{"type": "text", "text": SYSTEM_PROMPT}]})
            inputs = dict(
                encoder.processor.apply_chat_template(
                    [turns],
                    add_generation_prompt=True,
                    tokenize=True,
                    return_dict=True,
                    processor_kwargs={"return_tensors": "pt"},
                )
            )
            written = torch.tensor([encoder.tokens(answer)], dtype=torch.long)
            for name in inputs.keys() & {"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"}:
                more = {"input_ids": written, "attention_mask": torch.ones_like(written)}
                inputs[name] = torch.cat([inputs[name], more.get(name, torch.zeros_like(written))], dim=1)
            logits = model(**inputs).logits[0, -1]
            assert score == pytest.approx(torch.softmax(logits[[plus, minus]], 0)[0].item(), abs=CLOSE)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_matter(family: str, checkpoint: Callable[[str], str]) -> None:
    encoder = Encoder(checkpoint(family))
    mprm = open_mprm(checkpoint(family), encoder, MPRMConfig(likelihood=False))
    lesson = some_lessons(encoder)[0]
    other = replace(lesson, prompt=replace(lesson.prompt, id="other", images=(a_picture(56, 56, 9),)))
    left, right = scores_of(mprm, [lesson, other])
    assert np.abs(left - right).max() > 10 * CLOSE


@pytest.mark.parametrize(
    ("family", "tower"), list(zip(FAMILIES, ("visual", "vision_tower", "vision_tower"), strict=True))
)
def test_a_frozen_vision_tower_stays_as_it_is(family: str, tower: str, checkpoint: Callable[[str], str]) -> None:
    mprm, _, losses = trained(checkpoint(family), freeze_vision=True)
    before = load_model(checkpoint(family)).state_dict()
    after = mprm.scorer.backbone.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert losses[-1] < losses[0] and any("language_model" in name for name in changed)
    assert any(f".{tower}." in name for name in after)
    assert not any(f".{tower}." in name for name in changed)


@pytest.mark.parametrize(("family", "input_format"), list(zip(FAMILIES, FORMATS, strict=True)))
def test_adapters_learn_and_go_on_from_a_checkpoint(
    family: str, input_format: InputFormat, checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    mprm, lessons, losses = trained(checkpoint(family), "value", input_format, lora_rank=4)
    assert losses[-1] < losses[0]
    before = load_model(checkpoint(family)).state_dict()
    for name, tensor in mprm.scorer.backbone.state_dict().items():
        plain = name.replace(".base_layer.", ".")
        if plain in before and tensor.shape == before[plain].shape:
            assert torch.equal(tensor, before[plain]), name
    mprm.save(tmp_path)
    again = open_mprm(str(tmp_path), Encoder(str(tmp_path)), mprm.settings.model_copy(update={"lora_rank": 0}))
    for left, right in zip(scores_of(again, lessons), scores_of(mprm, lessons), strict=True):
        np.testing.assert_array_equal(left, right)
    assert again.train(lessons) == mprm.train(lessons)


def test_adapters_on_a_bfloat16_backbone_learn_in_float32(checkpoint: Callable[[str], str]) -> None:
    mprm, _, losses = trained(checkpoint("qwen2_5_vl"), "value", "rollout", lora_rank=4, dtype="bfloat16")
    assert losses[-1] < 0.9 * losses[0]
    kinds = {(p.requires_grad, p.dtype) for name, p in mprm.scorer.backbone.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_a_model_that_never_saw_a_picture_goes_on_from_a_checkpoint(
    checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    """Its vision tower has no optimizer state yet."""
    encoder = Encoder(checkpoint("qwen2_5_vl"))
    mprm = open_mprm(checkpoint("qwen2_5_vl"), encoder, MPRMConfig(likelihood=False, learning_rate=1e-3))
    lessons = [lesson for lesson in some_lessons(encoder) if not lesson.prompt.images]
    mprm.train(lessons)
    mprm.save(tmp_path)
    again = open_mprm(str(tmp_path), Encoder(str(tmp_path)), MPRMConfig(likelihood=False, learning_rate=1e-3))
    assert again.train(some_lessons(encoder)) == mprm.train(some_lessons(encoder))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_features_of_pictures_are_one_vector_a_visual_token(family: str, checkpoint: Callable[[str], str]) -> None:
    encoder = Encoder(checkpoint(family))
    mprm = open_mprm(checkpoint(family), encoder, MPRMConfig(likelihood=False))
    placeholder = {"qwen2_5_vl": "<|image_pad|>", "internvl": "<IMG_CONTEXT>", "gemma3": "<image_soft_token>"}[family]
    for prompt in PROMPTS[:3]:
        batch = encoder.batch([prompt], [()])
        features = image_features(mprm.scorer.backbone, batch.images)
        visual = (batch.prompt_ids == encoder.tokenizer.convert_tokens_to_ids(placeholder)).sum().item()
        assert features.shape == (visual, mprm.scorer.backbone.config.get_text_config().hidden_size)
        assert mprm.image_entropy([prompt])[0] == pytest.approx(feature_entropy(features), abs=1e-6)
    assert mprm.image_entropy([PROMPTS[3]]).tolist() == [0]
    full = Prompt("full", "s", "?", (a_picture(112, 112, 5),), "")
    assert 0 < mprm.image_entropy([full])[0] < 1
