"""What should make one doubt a policy, a task or a reward model: from counts to a sentence, or None where all is well.

`sieve try` says them of a few answers, and a run, once each, of its latest policy steps (`rl.monitoring.run_warnings`).
``among`` says what was counted, for example ``8 answers``.
"""

from __future__ import annotations

LEAST_ENTROPY = 1e-3
"""Nats a token; below it a policy gives the same answer every time."""
CUT_SHARE = 0.25
"""Share of answers that may be cut off."""
DIFFERENCES = {"float32": 1e-2, "bfloat16": 0.5}
"""Nats, by the policy's number format, by which engine and learner may differ at a token: their kernels do."""


def no_right_answer(right: int, among: str) -> str | None:
    """
    >>> no_right_answer(0, "8 answers")
    'no answer is right (8 answers): GRPO learns nothing from that; see the verdicts, the instruction, the verifier'
    """
    if right:
        return None
    told = f"no answer is right ({among})"
    return f"{told}: GRPO learns nothing from that; see the verdicts, the instruction, the verifier"


def no_mixed_group(mixed: int, groups: int, right: int, answers: int, among: str) -> str | None:
    """Where no answer is right it is `no_right_answer` that says so.

    >>> no_mixed_group(0, 2, right=8, answers=8, among="8 answers")
    'every answer is right (8 answers): there is nothing left to learn from these prompts'
    >>> no_mixed_group(0, 2, right=4, answers=8, among="8 answers")
    'none of 2 groups has right and wrong answers: GRPO learns from such groups alone; raise learner.samples'
    """
    if mixed or not right:
        return None
    if right == answers:
        return f"every answer is right ({among}): there is nothing left to learn from these prompts"
    told = f"none of {groups:,} groups has right and wrong answers"
    return f"{told}: GRPO learns from such groups alone; raise learner.samples"


def empty_buffer(kept: int, after: str) -> str | None:
    """
    >>> empty_buffer(0, "10 policy steps")
    'the buffer is empty after 10 policy steps: the reward model has nothing to learn from; see annotation, selection'
    """
    if kept:
        return None
    return f"the buffer is empty after {after}: the reward model has nothing to learn from; see annotation, selection"


def late_labels(delay: int, steps: int) -> str:
    """
    >>> late_labels(8, 5)
    'annotation.delay is 8: labels come after the 5 policy steps in which the reward model could learn from them'
    """
    return (
        f"annotation.delay is {delay}: labels come after the {steps:,} policy steps in which the reward model could "
        "learn from them"
    )


def one_kind_of_labels(positive: int, labelled: int) -> str | None:
    """
    >>> one_kind_of_labels(0, 31)
    'all 31 step labels say wrong: a reward model learns from that to say so of every step'
    >>> one_kind_of_labels(12, 31) is None, one_kind_of_labels(0, 0) is None
    (True, True)
    """
    if not labelled or 0 < positive < labelled:
        return None
    said = "right" if positive else "wrong"
    return f"all {labelled:,} step labels say {said}: a reward model learns from that to say so of every step"


def no_entropy(entropy: float, among: str) -> str | None:
    """``entropy`` is in nats a token.

    >>> no_entropy(2e-5, "the last 10 policy steps")
    'entropy is 2e-05 nats a token in the last 10 policy steps: all answers to a prompt are the same'
    """
    if entropy >= LEAST_ENTROPY:
        return None
    return f"entropy is {entropy:.1g} nats a token in {among}: all answers to a prompt are the same"


def cut_answers(cut: int, answers: int, limit: int) -> str | None:
    """
    >>> cut_answers(3, 8, 64)
    '3 of 8 answers hit the length limit: raise engine.max_completion_tokens, 64, or ask for shorter answers'
    """
    if cut <= CUT_SHARE * answers:
        return None
    told = f"{cut:,} of {answers:,} answers hit the length limit"
    return f"{told}: raise engine.max_completion_tokens, {limit:,}, or ask for shorter answers"


def no_steps(several: int, without: int, answers: int, rule: str) -> str | None:
    """``several`` answers have more than one step, and so many ``without`` have none.

    >>> no_steps(0, 0, 8, "blank_line")
    'no answer has more than one step: task.steps blank_line cuts none, and a label says no more than the outcome'
    >>> no_steps(5, 3, 8, "line")
    '3 of 8 answers have no step: nothing of them is labelled or scored'
    """
    if not several:
        cuts = f"task.steps {rule} cuts none"
        return f"no answer has more than one step: {cuts}, and a label says no more than the outcome"
    return (
        f"{without:,} of {answers:,} answers have no step: nothing of them is labelled or scored" if without else None
    )


def no_stated_answer(unstated: int, answers: int, verifier: str) -> str | None:
    """
    >>> no_stated_answer(8, 8, "exact")
    '8 of 8 answers state nothing that task.verifier exact reads: they count as wrong'
    """
    if not unstated:
        return None
    return f"{unstated:,} of {answers:,} answers state nothing that task.verifier {verifier} reads: they count as wrong"


def dropped_answers(dropped: int, answers: int) -> str | None:
    """
    >>> dropped_answers(2, 8)
    '2 of 8 answers hold a placeholder of a picture, which no model could read back: they are left out'
    """
    if not dropped:
        return None
    told = f"{dropped:,} of {answers:,} answers hold a placeholder of a picture"
    return f"{told}, which no model could read back: they are left out"


def unseen_pictures(pictures: int, tokens: int, checkpoint: str) -> str | None:
    """Of a prompt whose pictures became so many tokens.

    >>> unseen_pictures(1, 0, "Qwen/Qwen3-0.6B")
    'policy.checkpoint Qwen/Qwen3-0.6B sees no pictures, and the task has some: they become no tokens of the prompt'
    """
    if tokens or not pictures:
        return None
    told = f"policy.checkpoint {checkpoint} sees no pictures, and the task has some"
    return f"{told}: they become no tokens of the prompt"


def other_model(difference: float, dtype: str, when: str) -> str | None:
    """``difference`` is the largest of a token's log-probability, in nats.

    >>> other_model(2.5, "float32", "after new weights")
    'engine and learner differ by up to 2.5 nats at a token after new weights: they are not the same model'
    """
    if difference <= DIFFERENCES[dtype]:
        return None
    return f"engine and learner differ by up to {difference:.2g} nats at a token {when}: they are not the same model"


def no_room(prompt: int, context: int, answer: int) -> str | None:
    """For an ``answer`` of so many tokens behind a ``prompt`` of so many.

    >>> no_room(240, 256, 64)
    'answers have room for 15 tokens at most: engine.max_model_len is 256, and a prompt has 240'
    """
    left = context - 1 - prompt
    if left >= answer:
        return None
    told = f"answers have room for {max(left, 0):,} tokens at most"
    return f"{told}: engine.max_model_len is {context:,}, and a prompt has {prompt:,}"


def refused_reference(is_accepted: bool, verifier: str, reference: str) -> str | None:
    """
    >>> refused_reference(False, "my_module:judge", "12")
    "task.verifier my_module:judge calls the reference itself wrong: 'Answer: 12', boxed and in <answer> tags, too"
    """
    if is_accepted:
        return None
    told = f"task.verifier {verifier} calls the reference itself wrong"
    return f"{told}: {'Answer: ' + reference!r}, boxed and in <answer> tags, too"


def skipped_update(skipped: float) -> str | None:
    """
    >>> skipped_update(1)
    'the policy step was skipped: its loss or its gradient is no number; see policy.dtype, learner.learning_rate'
    """
    if not skipped:
        return None
    return "the policy step was skipped: its loss or its gradient is no number; see policy.dtype, learner.learning_rate"
