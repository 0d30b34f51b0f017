"""When false beliefs are unlearned, what steps are paid, and what the reward model takes for right, of recorded runs:

    python -m benchmarks.unlearning --arm outcome runs/unlearning/outcome-* --arm labels runs/unlearning/labels-*

Runs of the beliefs task with `record: true`, of the same seeds in each arm, in that order; --world, --world-seed. Four
tables, each by sixths of the runs: how many of the start policy's false rules are unlearned, which is so from the
first ten policy steps on in which half of a rule's results are right; the mean advantage by outcomes and by `progress`
of right steps, of first errors and of what follows them, in right answers and in wrong ones; the wrong labels of right
steps and of wrong ones, by kind; and the wrong results that are written most at the end, with what the reward model
said of them then and at first.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.remaining_errors import RESULT, results
from rewards.credit.batch import ScoredBatch
from rewards.credit.comparison import group_normalised
from rewards.credit.outcome import outcome
from rewards.credit.progress import progress
from rewards.measuring.by_kind import KINDS, step_kinds
from rewards.process_model.labels import hard
from rl.instruments.replay.stream import RecordedRollout, Stream, open_stream
from rl.tasks.worlds import WORLDS, Key, World

PARTS, WINDOW, LEAST = 6, 10, 4
"""Of a run; policy steps in which half of a rule's results have to be right; results that it takes to say so."""
STANDINGS = ("right", "first error", "after it")
EXAMPLES = 5


def unlearned_at(steps: Sequence[Sequence[tuple[Key, str]]], rules: Iterable[Key]) -> dict[Key, int]:
    """The policy steps after which each rule is unlearned; one more than there are for one that is not.

    Args:
        steps: Of each policy step the results that were written, as `benchmarks.remaining_errors.results` has them.
        rules: Those to look at.

    >>> rule = ("*", 6, 1)
    >>> unlearned_at([[(rule, "own")] * 4] * 12 + [[(rule, "right")] * 4] * 10, [rule])
    {('*', 6, 1): 7}
    """
    right: dict[Key, np.ndarray] = defaultdict(lambda: np.zeros(len(steps)))
    written: dict[Key, np.ndarray] = defaultdict(lambda: np.zeros(len(steps)))
    for step, found in enumerate(steps):
        for key, how in found:
            written[key][step] += 1
            right[key][step] += how == "right"
    when = {}
    for rule in rules:
        windows = range(len(steps) - WINDOW + 1)
        shares = ((right[rule][at : at + WINDOW].sum(), written[rule][at : at + WINDOW].sum()) for at in windows)
        when[rule] = next((at for at, (r, w) in enumerate(shares) if w >= LEAST and 2 * r >= w), len(steps) + 1)
    return when


def standing(rollout: RecordedRollout) -> list[str]:
    """Of each step, where it stands to the rollout's first error."""
    before = np.concatenate([[True], rollout.truth[:-1]])
    return [
        STANDINGS[0] if now else STANDINGS[1] if then else STANDINGS[2]
        for now, then in zip(rollout.truth, before, strict=True)
    ]


def paid(rollouts: Sequence[RecordedRollout]) -> Iterator[tuple[str, str, float, float]]:
    """Of each reasoning step of a policy step: its standing, its answer's, its advantages by outcome and `progress`."""
    entries = [one.entry.rollout for one in rollouts]
    batch = ScoredBatch(entries, [one.scores.scores for one in rollouts], [], group_normalised, [])
    kinds = iter(step_kinds(entries))
    for one, alone, along in zip(rollouts, outcome(batch), progress(batch), strict=True):
        answer = "right" if one.entry.rollout.outcome > 0 else "wrong"
        for span, stands in zip(one.entry.rollout.steps, standing(one), strict=True):
            if next(kinds) == "reasoning":
                yield stands, answer, alone[span.end - 1], along[span.end - 1]


def wrong_labels(rollouts: Sequence[RecordedRollout]) -> dict[tuple[str, bool], list[bool]]:
    """Whether the label of each labelled step is wrong, by its kind and whether the step is right."""
    found: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    labelled = [one for one in rollouts if one.annotated and (one.entry.counts.sampled > 0).all()]
    kinds = iter(step_kinds([one.entry.rollout for one in labelled]))
    for one in labelled:
        for label, truth in zip(hard(one.entry.counts) > 0.5, one.truth, strict=True):
            found[str(next(kinds)), bool(truth)].append(bool(label != truth))
    return found


def parts(stream: Stream) -> list[list[RecordedRollout]]:
    """The rollouts of each part of a run."""
    return [[one for step in steps for one in stream.step(int(step))] for steps in np.array_split(stream.steps, PARTS)]


def false_rules(texts: Iterable[str], world: World) -> list[Key]:
    """The false rules that steps come to often enough."""
    matches = (match.groups() for match in map(RESULT.search, texts) if match)
    beliefs = (world.belief(operator, int(left), int(right)) for left, operator, right, _ in matches)
    often = Counter(belief.key for belief in beliefs if belief.false)
    return [key for key, times in often.items() if times >= LEAST]


def print_unlearned(arms: dict[str, list[Stream]], world: World) -> None:
    """The first table."""
    some = next(iter(arms.values()))[0]
    ends = [int(part[-1]) for part in np.array_split(some.steps, PARTS)]
    print(f"| false rules unlearned after | {' | '.join(map(str, ends))} | of |\n|---|{'---|' * (PARTS + 1)}")
    for name, streams in arms.items():
        counts, of = [], []
        for stream in streams:
            texts = [[text for one in stream.step(step) for text in one.step_texts] for step in stream.steps]
            rules = false_rules((text for said in texts[:WINDOW] for text in said), world)
            when = unlearned_at([results(said, world) for said in texts], rules).values()
            counts.append([sum(at <= end for at in when) for end in ends])
            of.append(len(rules))
        print(f"| {name} | {' | '.join(f'{count:.1f}' for count in np.mean(counts, axis=0))} | {np.mean(of):.1f} |")


def print_paid(streams: Sequence[Stream]) -> None:
    """The second table, of one arm's runs."""
    rows: dict[tuple[str, str], list[list[tuple[float, float]]]] = defaultdict(lambda: [[] for _ in range(PARTS)])
    for stream in streams:
        for place, steps in enumerate(np.array_split(stream.steps, PARTS)):
            for step in steps:
                for stands, answer, alone, along in paid(stream.step(int(step))):
                    rows[stands, answer][place].append((alone, along))
    print(f"| reasoning steps | of answers |{' by outcomes, by progress |' * PARTS}\n|---|---|{'---|' * PARTS}")
    for (stands, answer), by_part in sorted(rows.items()):
        means = [np.mean(part, axis=0) if part else (np.nan, np.nan) for part in by_part]
        print(f"| {stands} | {answer} | {' | '.join(f'{a:+.2f}, {b:+.2f}' for a, b in means)} |")


def print_labels(streams: Sequence[Stream]) -> None:
    """The third table, of one arm's runs."""
    pieces = zip(*map(parts, streams), strict=True)
    by_part = [wrong_labels([one for piece in part for one in piece]) for part in pieces]
    print(f"| labels |{' wrong |' * PARTS}\n|---|{'---|' * PARTS}")
    for kind in KINDS:
        for right in (True, False):
            shares = [np.mean(found[kind, right]) if found[kind, right] else np.nan for found in by_part]
            print(f"| {'right' if right else 'wrong'} steps of {kind} | {' | '.join(f'{s:.1%}' for s in shares)} |")


def print_examples(streams: Sequence[Stream]) -> None:
    """The fourth table, of one arm's runs."""
    said: list[dict[str, list[float]]] = [defaultdict(list), defaultdict(list)]
    for stream in streams:
        first_part, *_, last_part = parts(stream)
        for found, rollouts in zip(said, (first_part, last_part), strict=True):
            for one in rollouts:
                for text, own, score in zip(one.step_texts, one.truth_own, one.scores.scores, strict=True):
                    if not own and (match := RESULT.search(text)):
                        found[match[0]].append(score)
    print("| wrong result | times at first | score | times at the end | score |\n|---|---|---|---|---|")
    for text in sorted(said[1], key=lambda text: -len(said[1][text]))[:EXAMPLES]:
        first, last = said[0][text], said[1][text]
        print(f"| {text} | {len(first)} | {np.mean(first or np.nan):.2f} | {len(last)} | {np.mean(last):.2f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arm", nargs="+", action="append", required=True, metavar=("NAME", "RUN"))
    parser.add_argument("--world", choices=WORLDS, default="C", help="of the policy that they began with")
    parser.add_argument("--world-seed", type=int, default=0)
    chosen = parser.parse_args()
    arms = {name: [open_stream(Path(run)) for run in runs] for name, *runs in chosen.arm}
    print_unlearned(arms, World(chosen.world, chosen.world_seed))
    for name, streams in arms.items():
        if all(one.scores.scores.size for stream in streams for one in stream.step(stream.steps[0])):
            print(f"\n{name}\n")
            print_paid(streams)
            print()
            print_labels(streams)
            print()
            print_examples(streams)


if __name__ == "__main__":
    main()
