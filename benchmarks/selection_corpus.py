"""A synthetic corpus of VisualPRM400K's size and shape, for benchmarks/offline_selection.py.

565,096 rollouts with 3.17 million steps, 5.6 on average and at most 12, in 38 JSON-lines files of very unequal length;
1.6 GB. N = 16 continuations a step. The published marginals hold to within rounding:

- 7.67 % of the rollouts are mixed: right steps first, then wrong ones to the end;
- 3.57 % of the steps are negative, some of them in rollouts with no right step at all;
- the mean Monte-Carlo score is 0.857: a step of a rollout of quality q, with q from a Beta distribution, has
  1 + Binomial(15, q) successes, unless it is negative.

Steps after a first negative one carry score 0.0 and ``num_mc_total`` 0, as early stopping leaves them. Every record has
all the fields of the original; its response repeats the steps, its question wraps ``question_orig`` in instructions.
Texts are drawn from pools of sentences with numbers, LaTeX and letters outside ASCII. Equal arguments, equal bytes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

ROLLOUTS, FILES, CONTINUATIONS = 565_096, 38, 16
MEAN_STEPS, MOST_STEPS = 5.6174, 12
MIXED, NEGATIVE_STEPS, MEAN_SCORE = 0.0767, 0.0357, 0.857
LATE_ERROR = 0.62  # the chance that a mixed rollout's next right step is not yet the last one
POOL = 8192
INSTRUCTION = (
    "Your task is to answer the question below. Give step by step reasoning before you answer, and when you're ready "
    'to answer, please use the format "Final answer: .."\n\nQuestion:\n\n{}'
)
SENTENCES = (
    "The figure shows that {a} and {b} belong to the same {c}, so {x} of them are left.",
    "According to the {a}, the value of the {b} is {x}.{y}, which is larger than {y}.",
    "We know that $\\frac{{{x}}}{{{y}}} \\times \\angle {b} = {x}^\\circ$, and therefore the {c} follows.",
    "Looking at the {a} on the left side of the image, I can see {x} {b}s next to the {c}.",
    "Using the Pythagorean theorem, \\(AC = \\sqrt{{{x}^2 + {y}^2}}\\), so the {a} and not the {b} decides.",
    'The label reads "{a} {x}", and it points to the {b} below the {c}.',
    "Since the {a} has {x} rows and the {b} has {y}, the total number of {c}s is {x}° × {y}.",  # noqa: RUF001
)
WEIGHTS = (0.2, 0.2, 0.15, 0.2, 0.1, 0.13, 0.02)  # the last one is not ASCII: one record in six has it
WORDS = (  # noqa: SIM905
    "triangle circle table chart axis legend region station angle diagonal bottle passenger student percentage "
    "graph perimeter radius column category country magnet solution particle organism leaf river sample ratio"
).split()


def write_corpus(folder: Path, rollouts: int = ROLLOUTS, seed: int = 0) -> None:
    """Write the corpus into a folder, or as much of it as the number of rollouts says."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    steps = [_text(generator, sentences=generator.geometric(0.55)) for _ in range(POOL)]
    questions = [_text(generator, sentences=generator.geometric(0.6)) for _ in range(POOL)]
    sizes = generator.multinomial(rollouts, generator.dirichlet(np.full(FILES, 1.0)))
    for place, size in enumerate(sizes):
        with (folder / f"source_{place:02}.jsonl").open("w", encoding="utf-8") as file:
            for start in range(0, size, 10_000):
                file.writelines(_records(generator, start, min(10_000, size - start), place, steps, questions))


def _text(generator: np.random.Generator, sentences: int) -> str:
    """A few sentences, as they stand inside a JSON string."""
    drawn = []
    for sentence in generator.choice(SENTENCES, sentences, p=WEIGHTS):
        a, b, c = generator.choice(WORDS, 3)
        x, y = generator.integers(2, 200, 2)
        drawn.append(str(sentence).format(a=a, b=b, c=c, x=x, y=y))
    return json.dumps(" ".join(drawn), ensure_ascii=False)[1:-1]


def _records(
    generator: np.random.Generator, start: int, size: int, place: int, steps: list[str], questions: list[str]
) -> list[str]:
    lengths = 1 + generator.binomial(MOST_STEPS - 1, (MEAN_STEPS - 1) / (MOST_STEPS - 1), size)
    correct, sampled = _counts(generator, lengths)
    ends = np.cumsum(lengths).tolist()
    texts = generator.integers(0, POOL, len(correct)).tolist()
    asked = generator.integers(0, POOL, size).tolist()
    instruction = json.dumps(INSTRUCTION)[1:-1]
    lines, first = [], 0
    for number, (end, question) in enumerate(zip(ends, asked, strict=True), start=start):
        written = [steps[text] for text in texts[first:end]]
        scored = ", ".join(
            f'{{"step": "{step}", "score": {right / CONTINUATIONS}, '
            f'"num_mc_correct": {right}, "num_mc_total": {total}}}'
            for step, right, total in zip(written, correct[first:end], sampled[first:end], strict=True)
        )
        lines.append(
            f'{{"image": "source_{place:02}/images/{number:08}.png", "question": "'
            f'{instruction.format(questions[question])}", "answer": "{question % 97}", "response": "'
            + "\\n\\n".join(written)
            + f'\\n\\nFinal answer: {question % 97}", "question_orig": "{questions[question]}", '
            f'"num_mc_sequences": {CONTINUATIONS}, "steps_with_score": [{scored}]}}\n'
        )
        first = end
    return lines


def _counts(generator: np.random.Generator, lengths: np.ndarray) -> tuple[list[int], list[int]]:
    """Right and finished continuations of every step, end to end."""
    size = len(lengths)
    long = lengths > 1
    mixed = long & (generator.random(size) < MIXED / long.mean())
    negative = np.where(mixed, 1 + generator.binomial(np.maximum(lengths - 2, 0), 1 - LATE_ERROR), 0)
    missing = NEGATIVE_STEPS * lengths.sum() - negative.sum()
    hopeless = ~mixed & (generator.random(size) < missing / lengths[~mixed].sum())
    negative[hopeless] = lengths[hopeless]
    place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    after = place - np.repeat(lengths - negative, lengths)
    positive_mean = (MEAN_SCORE / (1 - NEGATIVE_STEPS) * CONTINUATIONS - 1) / (CONTINUATIONS - 1)
    quality = generator.beta(4 * positive_mean, 4 * (1 - positive_mean), size)
    right = 1 + generator.binomial(CONTINUATIONS - 1, np.repeat(quality, lengths))
    return np.where(after >= 0, 0, right).tolist(), np.where(after > 0, 0, CONTINUATIONS).tolist()
