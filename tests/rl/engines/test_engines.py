"""Both engines against the learner: what one samples, the other scores alike, before and after new weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoConfig

from rewards.models.encoding import Encoder
from rewards.records import Completion, Experience, Prompt, SamplingRequest
from rl.engines.engine import RenewableEngine
from rl.engines.hf_engine import HfEngine
from rl.engines.vllm_engine import VllmEngine, leave_configurations_to_transformers
from rl.files.named_checkpoint import SHIPPED_POLICY
from rl.learning.learner import PolicyLearner
from rl.tasks.grid import GridTask
from tests.fixtures.learner_config import learner_config

pytestmark = pytest.mark.slow

CHECKPOINT = str(SHIPPED_POLICY)
TOLERANCE = 1e-3
NEARLY_ALL = 0.9
"""Of equal draws in another batch: rounding decides a draw between two tokens that is as good as even, once in long."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(CHECKPOINT)


@pytest.fixture(scope="module")
def learner(encoder: Encoder) -> PolicyLearner:
    return PolicyLearner(CHECKPOINT, encoder, learner_config(learning_rate=3e-3))


@pytest.fixture(scope="module", params=[VllmEngine, HfEngine])
def engine(request: pytest.FixtureRequest) -> Iterator[RenewableEngine]:
    engine = request.param(CHECKPOINT, max_completion_tokens=48)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """The grid task's questions, about pictures of different sizes."""
    task, sizes = GridTask(), [(84, 84), (56, 112), (140, 84), (84, 84), (112, 112)]
    originals = [task.prompt("heldout", index) for index in range(len(sizes))]
    return [
        Prompt(p.id, p.source, p.question, tuple(image.resize(size) for image in p.images), p.answer)
        for p, size in zip(originals, sizes, strict=True)
    ]


def largest_difference(
    learner: PolicyLearner, requests: list[SamplingRequest], samples: list[list[Completion]]
) -> float:
    """Between the engine's log-probabilities and the learner's, over all sampled tokens, in one mixed batch."""
    rows = [(request, sample) for request, group in zip(requests, samples, strict=True) for sample in group]
    scored = learner.logprobs(
        [request.prompt for request, _ in rows], [(*request.prefix, *sample.token_ids) for request, sample in rows]
    )
    return max(
        np.abs(np.array(values[len(request.prefix) :]) - np.array(sample.logprobs)).max()
        for values, (request, sample) in zip(scored, rows, strict=True)
    )


def agreement(left: list[list[Completion]], right: list[list[Completion]]) -> float:
    """The share of samples that are of the same tokens; their log-probabilities then differ in rounding alone."""
    pairs = [pair for groups in zip(left, right, strict=True) for pair in zip(*groups, strict=True)]
    same = [(one, other) for one, other in pairs if one.token_ids == other.token_ids]
    for one, other in same:
        assert np.allclose(one.logprobs, other.logprobs, atol=TOLERANCE)
    return len(same) / len(pairs)


def a_large_update(learner: PolicyLearner, requests: list[SamplingRequest], samples: list[list[Completion]]) -> None:
    generator = np.random.default_rng(0)
    learner.step(
        [
            Experience(request.prompt, s.token_ids, s.logprobs, generator.normal(size=len(s.token_ids)), 0)
            for request, group in zip(requests, samples, strict=True)
            for s in group
        ]
    )


def test_log_probabilities_are_the_learners_before_and_after_a_weight_update(
    engine: RenewableEngine, encoder: Encoder, prompts: list[Prompt]
) -> None:
    learner = PolicyLearner(CHECKPOINT, encoder, learner_config(learning_rate=3e-3))
    requests = [SamplingRequest(prompt, n=3, seed=7 + i) for i, prompt in enumerate(prompts)]
    samples = engine.sample(requests)
    assert largest_difference(learner, requests, samples) < TOLERANCE

    a_large_update(learner, requests, samples)
    assert largest_difference(learner, requests, samples) > 10 * TOLERANCE, "the update must change the policy visibly"
    engine.load_weights(learner.weights(), 1)
    fresh = engine.sample(requests)
    assert {sample.policy_version for group in fresh for sample in group} == {1}
    assert largest_difference(learner, requests, fresh) < TOLERANCE

    prefixed = [
        SamplingRequest(prompt, prefix=group[0].token_ids[: 5 + 4 * i], n=2, seed=i)
        for i, (prompt, group) in enumerate(zip(prompts, fresh, strict=True))
    ]
    assert largest_difference(learner, prefixed, engine.sample(prefixed)) < TOLERANCE
    engine.load_weights(PolicyLearner(CHECKPOINT, encoder).weights(), 0)


def test_the_vision_tower_is_renewed_with_the_rest(
    engine: RenewableEngine, learner: PolicyLearner, prompts: list[Prompt]
) -> None:
    """A stale image cache would keep answering from the old vision tower: seen in similar systems."""
    requests = [SamplingRequest(prompt, n=2, seed=3) for prompt in prompts]
    engine.sample(requests)
    blinded = {
        name: weight * 0.5 if "visual" in name and "merger" in name else weight
        for name, weight in learner.weights().items()
    }
    engine.load_weights(blinded, 5)
    samples = engine.sample(requests)
    assert largest_difference(learner, requests, samples) > 10 * TOLERANCE
    engine.load_weights(learner.weights(), 0)
    assert largest_difference(learner, requests, engine.sample(requests)) < TOLERANCE


def test_a_request_decides_its_samples(engine: RenewableEngine, prompts: list[Prompt]) -> None:
    requests = [SamplingRequest(prompt, n=4, seed=11) for prompt in prompts]
    first, second = engine.sample(requests), engine.sample(requests)
    assert agreement(first, second) > NEARLY_ALL
    others = engine.sample([SamplingRequest(prompt, n=4, seed=12) for prompt in prompts])
    assert agreement(others, first) < 0.75
    different = [len({sample.token_ids for sample in group}) for group in first]
    assert sum(different) > 2 * len(different), "samples of a group must not repeat one another"


def test_lengths_and_finish_reasons(engine: RenewableEngine, encoder: Encoder, prompts: list[Prompt]) -> None:
    whole = engine.sample([SamplingRequest(prompts[0], n=8, seed=1)])[0]
    for sample in whole:
        assert len(sample.token_ids) == len(sample.logprobs) <= 48
        assert (sample.token_ids[-1] == encoder.end_token) == (sample.finish_reason == "stop")
    prefix = whole[0].token_ids[:8] * 6
    cut = engine.sample([SamplingRequest(prompts[0], prefix=prefix[:47], n=4, seed=1)])[0]
    assert all(len(sample.token_ids) == 1 for sample in cut)
    assert all(s.finish_reason == ("stop" if s.token_ids[0] == encoder.end_token else "length") for s in cut)


def test_temperature_0_takes_the_most_likely_token_each_time(
    engine: RenewableEngine, learner: PolicyLearner, prompts: list[Prompt]
) -> None:
    """Beside sampled requests in one call; log-probabilities are those at temperature 1, as the learner has them."""
    greedy = [SamplingRequest(prompt, temperature=0, seed=i) for i, prompt in enumerate(prompts)]
    sampled = [SamplingRequest(prompt, n=2, seed=3) for prompt in prompts]
    together = engine.sample([*greedy, *sampled])
    assert largest_difference(learner, [*greedy, *sampled], together) < TOLERANCE
    best = [group[0] for group in together[: len(prompts)]]
    others = engine.sample([SamplingRequest(prompt, temperature=0, seed=99) for prompt in prompts])
    assert [group[0].token_ids for group in others] == [sample.token_ids for sample in best]
    for prompt, sample in zip(prompts, best, strict=True):
        first = engine.sample([SamplingRequest(prompt, n=64, seed=1)])[0]
        drawn = [other.logprobs[0] for other in first]
        assert max(drawn) <= sample.logprobs[0] + TOLERANCE, "no first token is likelier than the greedy one"
    with pytest.raises(ValueError, match="n is 2 at temperature 0"):
        SamplingRequest(prompts[0], n=2, temperature=0)


def test_a_low_temperature_comes_near_the_greedy_answer(engine: RenewableEngine, prompts: list[Prompt]) -> None:
    greedy = engine.sample([SamplingRequest(prompt, temperature=0) for prompt in prompts])
    cold = engine.sample([SamplingRequest(prompt, temperature=0.01, seed=5) for prompt in prompts])
    assert [group[0].token_ids[:8] for group in cold] == [group[0].token_ids[:8] for group in greedy]


def test_a_continuation_ends_with_the_text_that_was_asked_for(
    engine: RenewableEngine, encoder: Encoder, prompts: list[Prompt]
) -> None:
    """The shipped policy writes a line break after each step, as a token of its own."""
    prompt = prompts[0]
    (whole,) = engine.sample([SamplingRequest(prompt, temperature=0)])[0]
    pieces = [encoder.tokenizer.decode([token]) for token in whole.token_ids]
    breaks = [place for place, piece in enumerate(pieces) if piece == "\n"]
    assert whole.finish_reason == "stop" and len(breaks) > 2
    starts, ends = [0, *(place + 1 for place in breaks)], [*(place + 1 for place in breaks), len(pieces)]
    requests = [SamplingRequest(prompt, whole.token_ids[:k], temperature=0, until="\n") for k in starts]
    steps = [group[0] for group in engine.sample(requests)]
    assert [step.token_ids for step in steps] == [whole.token_ids[k:end] for k, end in zip(starts, ends, strict=True)]
    assert [step.finish_reason for step in steps] == [*["until"] * len(breaks), "stop"]
    assert [len(step.logprobs) for step in steps] == [len(step.token_ids) for step in steps]


def test_a_text_to_end_with_may_span_tokens_and_must_be_new(
    engine: RenewableEngine, encoder: Encoder, prompts: list[Prompt]
) -> None:
    prompt = prompts[0]
    (whole,) = engine.sample([SamplingRequest(prompt, temperature=0)])[0]
    words = [encoder.decode(whole.token_ids[:k]) for k in range(len(whole.token_ids) + 1)]
    second = next(k for k, text in enumerate(words) if text.endswith("\n2:"))
    (sample,) = engine.sample([SamplingRequest(prompt, temperature=0, until="\n2")])[0]
    assert (sample.token_ids, sample.finish_reason) == (whole.token_ids[:second], "until"), "the whole last token stays"
    # The prefix holds the line break already: what begins in it is not waited for.
    late = SamplingRequest(prompt, whole.token_ids[: second - 1], temperature=0, until="\n2")
    (rest,) = engine.sample([late])[0]
    assert (rest.token_ids, rest.finish_reason) == (whole.token_ids[second - 1 :], "stop")


def test_requests_that_end_early_do_not_disturb_the_others(engine: RenewableEngine, prompts: list[Prompt]) -> None:
    steps = [SamplingRequest(prompt, n=3, seed=i, until="\n") for i, prompt in enumerate(prompts)]
    answers = [SamplingRequest(prompt, n=3, seed=i) for i, prompt in enumerate(prompts)]
    alone = engine.sample(answers)
    mixed = engine.sample([request for pair in zip(steps, answers, strict=True) for request in pair])
    assert agreement(mixed[1::2], alone) > NEARLY_ALL
    for group in mixed[::2]:
        assert all(s.finish_reason in ("until", "stop", "length") and len(s.token_ids) < 48 for s in group)


def test_a_length_limit_ends_a_step_too(engine: RenewableEngine, encoder: Encoder, prompts: list[Prompt]) -> None:
    (whole,) = engine.sample([SamplingRequest(prompts[0], temperature=0)])[0]
    # 45 of at most 48 tokens are there; the next line needs more than the three that are left.
    prefix = (whole.token_ids * 3)[:45]
    (sample,) = engine.sample([SamplingRequest(prompts[0], prefix, temperature=0, until="no such text")])[0]
    assert len(sample.token_ids) <= 3 and sample.finish_reason in ("length", "stop")


def test_a_segment_ends_where_it_was_asked_to_and_can_be_continued(
    engine: RenewableEngine, prompts: list[Prompt]
) -> None:
    prompt = prompts[0]
    (whole,) = engine.sample([SamplingRequest(prompt, temperature=0)])[0]
    assert whole.finish_reason == "stop" and len(whole.token_ids) > 20
    written: tuple[int, ...] = ()
    reasons = []
    while not reasons or reasons[-1] == "segment":
        (part,) = engine.sample([SamplingRequest(prompt, written, temperature=0, max_tokens=10)])[0]
        written += part.token_ids
        reasons.append(part.finish_reason)
    assert written == whole.token_ids and reasons == ["segment"] * ((len(written) - 1) // 10) + ["stop"]
    with pytest.raises(ValueError, match="max_tokens is 0"):
        SamplingRequest(prompt, max_tokens=0)


def test_a_segment_that_reaches_the_engines_own_limit_is_cut_off(
    engine: RenewableEngine, prompts: list[Prompt]
) -> None:
    """45 of at most 48 tokens are there; requests for more, fewer and as many as are left, in one call."""
    (whole,) = engine.sample([SamplingRequest(prompts[0], temperature=0)])[0]
    prefix = (whole.token_ids[:-1] * 3)[:45]
    requests = [SamplingRequest(prompts[0], prefix, n=8, seed=most, max_tokens=most) for most in (2, 3, 4)]
    for request, samples in zip(requests, engine.sample(requests), strict=True):
        reason = "segment" if request.max_tokens == 2 else "length"
        unended = [sample for sample in samples if sample.finish_reason != "stop"]
        assert unended and {sample.finish_reason for sample in unended} == {reason}
        assert {len(sample.token_ids) for sample in unended} == {2 if reason == "segment" else 3}


def test_a_checkpoints_own_sampling_preferences_do_not_count(tmp_path: Path, prompts: list[Prompt]) -> None:
    """Qwen2.5-VL ships a repetition penalty; Transformers would fill it in, vLLM is told not to."""
    shutil.copytree(CHECKPOINT, tmp_path / "policy")
    preferences = {"do_sample": True, "top_k": 1, "repetition_penalty": 1.9}
    (tmp_path / "policy" / "generation_config.json").write_text(json.dumps(preferences))
    requests = [SamplingRequest(prompt, n=2, seed=3) for prompt in prompts]
    own, plain = HfEngine(str(tmp_path / "policy")), HfEngine(CHECKPOINT)
    assert own.sample(requests) == plain.sample(requests)


def test_no_requests_no_answers(engine: RenewableEngine) -> None:
    assert engine.sample([]) == []


def test_equal_images_give_equal_answers_whatever_their_batch(engine: RenewableEngine, prompts: list[Prompt]) -> None:
    """Padding and neighbours must not leak: a request alone has the log-probabilities it has among others."""
    alone = engine.sample([SamplingRequest(prompts[1], n=1, seed=5)])[0][0]
    together = engine.sample([SamplingRequest(prompt, n=1, seed=5) for prompt in prompts])[1][0]
    shared = next(
        (i for i, (a, b) in enumerate(zip(alone.token_ids, together.token_ids, strict=False)) if a != b),
        min(len(alone.token_ids), len(together.token_ids)),
    )
    assert shared > 0
    assert np.allclose(alone.logprobs[:shared], together.logprobs[:shared], atol=TOLERANCE)


def test_an_image_of_one_colour_is_told_from_another(engine: RenewableEngine, prompts: list[Prompt]) -> None:
    question = prompts[0]
    answers = []
    for grey in (0, 255):
        blank = Prompt(f"blank{grey}", "total", question.question, (Image.new("RGB", (84, 84), (grey,) * 3),), "0")
        answers.append(engine.sample([SamplingRequest(blank, n=1, seed=5)])[0][0])
    assert answers[0].logprobs != answers[1].logprobs


@pytest.mark.parametrize("kind", [VllmEngine, HfEngine])
def test_an_answer_ends_with_its_turn_whatever_the_files_call_the_end(
    kind: type[RenewableEngine], prompts: list[Prompt], encoder: Encoder, tmp_path: Path
) -> None:
    """As in files of a base model beside a chat template: each names another token, and all of them end an answer."""
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(CHECKPOINT, checkpoint)
    other, third = encoder.tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|video_pad|>"])
    for name, key, value in (
        ("tokenizer_config.json", "eos_token", "<|endoftext|>"),
        ("generation_config.json", "eos_token_id", [third]),
        ("config.json", "eos_token_id", third),
    ):
        content = json.loads((checkpoint / name).read_text())
        (checkpoint / name).write_text(json.dumps(content | {key: value}))
    found = Encoder(str(checkpoint))
    assert found.end_token == encoder.end_token and found.end_tokens == {encoder.end_token, other, third}
    engine = kind(str(checkpoint), max_completion_tokens=48)
    samples = engine.sample([SamplingRequest(prompt, n=2, seed=3) for prompt in prompts])
    engine.close()
    assert any(sample.finish_reason == "stop" for group in samples for sample in group)
    for sample in (sample for group in samples for sample in group):
        assert (sample.token_ids[-1] in found.end_tokens) == (sample.finish_reason == "stop")
        assert found.end_tokens.isdisjoint(sample.token_ids[:-1])


def test_a_family_that_vllm_reads_by_a_class_of_its_own_stays_transformers(tmp_path: Path) -> None:
    """In a process that has both: Transformers' model fails with vLLM's configuration."""
    from vllm.transformers_utils.config import get_config

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_5"}))
    get_config(str(tmp_path), trust_remote_code=False)
    assert type(AutoConfig.from_pretrained(tmp_path)).__module__.startswith("vllm.")
    leave_configurations_to_transformers()
    assert type(AutoConfig.from_pretrained(tmp_path)).__module__.startswith("transformers.")
