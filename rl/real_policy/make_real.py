"""The seeded recipe for the real quickstart: a policy with real weights that errs, and the questions it is to learn.

Two lessons. In the first the vision tower learns what pictures show: the mean of a picture's visual tokens should look,
to the word embeddings, like its colour and shape, or its digit. In the second the whole model writes solutions in steps
of English, whose teacher slips on purpose, as that of the tiny policy does.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from rl.files.folders import new_folder
from rl.real_policy.architecture import make_model, make_processor, save_model
from rl.real_policy.language_model import END_OF_TURN, load_language_model
from rl.real_policy.questions import COLOURS, DIGITS, SHAPES, Part, Pool, Question, questions, read_pool
from rl.real_policy.solutions import solve
from rl.real_policy.task import row_id
from rl.tiny_policy.lesson import IGNORED, Report, answer_labels, learn
from rl.tiny_policy.measure import chat_text

_SHIFT = 4  # pixels by which a picture is moved in the first lesson, so that few digits go a long way


@dataclass(frozen=True)
class Recipe:
    """Optimizer steps of each lesson, examples a step, peak learning rates, and the teacher's slips.

    Attributes:
        layers: Of SmolLM2's 30.
        slips: Share of demonstrated steps that go wrong.
        sums: Share of questions on two pictures.
        train_rows, heldout_rows: Of the tables of questions.
    """

    layers: int = 8
    seeing: int = 800
    solving: int = 650
    seen_batch: int = 64
    solved_batch: int = 16
    seeing_rate: float = 1e-3
    solving_rate: float = 4e-4
    slips: float = 0.25
    sums: float = 0.5
    train_rows: int = 4000
    heldout_rows: int = 512


def make_real(folder: str | Path, seed: int = 0, recipe: Recipe | None = None, report: Report = print) -> Path:
    """Write ``folder/policy``, a Transformers checkpoint, beside ``train.jsonl``, ``heldout.jsonl`` and their pictures.

    Args:
        folder: Not there yet.
        seed: Of the tower's weights, the questions and the slips. On one machine, the same seed gives the same weights.
        recipe: How long and how fast to learn.
        report: Takes lines of progress.

    Raises:
        ConfigError: The packages that bring weights and pictures are not installed.
        OSError: The folder cannot be written.
    """
    recipe = recipe or Recipe()
    began = time.monotonic()
    pool = read_pool("warm_start")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        language_model, tokenizer = load_language_model(recipe.layers)
        processor, model = make_processor(tokenizer), make_model(language_model, tokenizer)
        lessons = _Lessons(recipe, model, processor, pool, seed)
        tower = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
        learn("seeing", lessons.see, recipe.seeing, [torch.optim.AdamW(tower, lr=recipe.seeing_rate)], report)
        for name, share in lessons.seen().items():
            report(f"seeing: {share:.3f} of held-out pictures, by their {name}")
        everything = torch.optim.AdamW(model.parameters(), lr=recipe.solving_rate, betas=(0.9, 0.98), weight_decay=0.0)
        learn("solving", lessons.solve, recipe.solving, [everything], report)
    model.eval()
    with new_folder(Path(folder)) as partial:
        save_model(model, partial / "policy")
        processor.save_pretrained(partial / "policy")
        _write_table(partial, "train", recipe.sums, recipe.train_rows)
        _write_table(partial, "heldout", recipe.sums, recipe.heldout_rows)
    report(f"made {folder} in {time.monotonic() - began:.0f} s")
    return Path(folder)


class _Lessons:
    """The losses of the two lessons; each call takes the next batch of pictures or questions."""

    def __init__(
        self, recipe: Recipe, model: LlavaForConditionalGeneration, processor: LlavaProcessor, pool: Pool, seed: int
    ) -> None:
        self.recipe, self.model, self.processor, self.pool = recipe, model, processor, pool
        self.rng = np.random.default_rng(seed)
        self.names = list(pool.pictures)
        self.questions = questions("warm_start", pool, recipe.sums, self.rng)

    def see(self) -> Tensor:
        """Nats a picture, summed over what is to be seen in it."""
        # As many digits as objects, of which there are more.
        kinds = [[name for name in self.names if len(self.pool.seen[name]) == words] for words in (1, 2)]
        names = [kinds[n % 2][self.rng.integers(len(kinds[n % 2]))] for n in range(self.recipe.seen_batch)]
        return self._see(self.pool, names, shifted=True)[0]

    def seen(self) -> dict[str, float]:
        """Of held-out pictures, the share whose colour, shape or digit is the likeliest word."""
        pool = read_pool("heldout")
        with torch.no_grad():
            right = self._see(pool, list(pool.pictures))[1]
        return {name: float(np.mean(verdicts)) for name, verdicts in right.items()}

    def solve(self) -> Tensor:
        """Mean negative log-likelihood of the solutions' tokens, in nats."""
        asked = list(islice(self.questions, self.recipe.solved_batch))
        answers = [solve(question, self.recipe.slips, self.rng) + END_OF_TURN for question in asked]
        texts = [
            chat_text(self.processor, question.text, len(question.pictures)) + answer
            for question, answer in zip(asked, answers, strict=True)
        ]
        images = [[self.pool.pictures[name] for name in question.pictures] for question in asked]
        batch = self.processor(text=texts, images=images, padding=True, return_tensors="pt")
        written = self.processor.tokenizer(answers)["input_ids"]
        labels, longest = answer_labels(batch["input_ids"], written), max(map(len, written))
        logits = self.model(**batch, logits_to_keep=longest + 1).logits[:, :-1]
        return cross_entropy(logits.flatten(0, 1), labels[:, -longest:].flatten(), ignore_index=IGNORED)

    def _see(self, pool: Pool, names: list[str], shifted: bool = False) -> tuple[Tensor, dict[str, list[bool]]]:
        pixels = self.processor.image_processor(
            [pool.pictures[name] for name in names], return_tensors="pt"
        ).pixel_values
        if shifted:
            shifts = self.rng.integers(-_SHIFT, _SHIFT + 1, size=(len(names), 2)).tolist()
            pixels = torch.stack([one.roll(shift, (-2, -1)) for one, shift in zip(pixels, shifts, strict=True)])
        features = self.model.model.get_image_features(pixel_values=pixels).pooler_output
        tokens = torch.stack(list(features)).mean(1)
        loss, right = torch.zeros(()), {}
        for name, words, place, count in (("colour", COLOURS, 0, 2), ("shape", SHAPES, 1, 2), ("digit", DIGITS, 0, 1)):
            rows = [row for row, picture in enumerate(names) if len(pool.seen[picture]) == count]
            target = torch.tensor([words.index(pool.seen[names[row]][place]) for row in rows])
            logits = tokens[rows] @ self._embeddings(words).T
            loss = loss + cross_entropy(logits, target)
            right[name] = (logits.argmax(1) == target).tolist()
        return loss, right

    def _embeddings(self, words: tuple[str, ...]) -> Tensor:
        """Of the words as they stand in a sentence: a digit is a token of its own, other words bring their space."""
        tokenizer = self.processor.tokenizer
        texts = [word if word.isdigit() else f" {word}" for word in words]
        ids = [tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in texts]
        return self.model.get_input_embeddings().weight[ids].detach()


def _write_table(folder: Path, part: Part, sums: float, rows: int) -> None:
    """Distinct questions of one part as JSON lines, with the pictures that they show."""
    pool = read_pool(part)
    found: dict[Question, None] = {}
    for question in questions(part, pool, sums, np.random.default_rng(0)):
        found[question] = None
        if len(found) == rows:
            break
    (folder / "pictures").mkdir(exist_ok=True)
    with (folder / f"{part}.jsonl").open("w", encoding="utf-8") as file:
        for number, question in enumerate(found):
            for name in question.pictures:
                pool.pictures[name].save(folder / "pictures" / name)
            row = {
                "id": row_id(number, question.seen),
                "question": question.text,
                "answer": question.answer,
                "images": [f"pictures/{name}" for name in question.pictures],
                "source": question.source,
            }
            file.write(json.dumps(row) + "\n")
