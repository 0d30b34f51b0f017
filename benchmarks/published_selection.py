"""The published rule, written straight down: what `sieve select` is compared with in benchmarks/offline_selection.py.

    python benchmarks/published_selection.py FOLDER RATIO ALPHA OUT

A file's lines are read into memory; all of them are parsed with ``json.loads`` for their scores, and the chosen ones
once more for the output. No library beside Python's own. The records of the benchmark's corpus are all complete.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Select from every file of a folder, in name order."""
    folder, ratio, alpha, out = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
    with out.open("w", encoding="utf-8") as output:
        for file in sorted(folder.glob("*.jsonl")):
            with file.open(encoding="utf-8") as stream:
                lines = stream.readlines()
            ranking = []
            for place, line in enumerate(lines):
                record = json.loads(line)
                scores = [float(step["score"]) for step in record["steps_with_score"]]
                ranking.append((place, informativeness(scores, alpha)))
            ranking.sort(key=lambda entry: entry[1], reverse=True)
            count = max(1, int(len(ranking) * ratio))
            for place in sorted(place for place, _ in ranking[:count]):
                output.write(json.dumps(training_record(json.loads(lines[place])), ensure_ascii=False) + "\n")


def informativeness(scores: list[float], alpha: float) -> float:
    """BIS of one rollout."""
    positive = [score for score in scores if score > 0]
    p = len(positive) / len(scores)
    reliability = sum(positive) / len(positive) if positive else 1.0
    return (p * (1 - p) + alpha) * reliability


def training_record(record: dict) -> dict:
    """What an annotation record becomes."""
    steps = record["steps_with_score"]
    question = (record["question_orig"] or record["question"]).strip()
    process = "\n\n".join(step["step"].strip() + "<prm>" for step in steps)
    labels = [1.0 if float(step["score"]) > 0 else 0.0 for step in steps]
    human = {"from": "human", "value": f"Question: {question}\nProcess: {process}"}
    return {"image": record["image"], "conversations": [human, {"from": "gpt", "value": labels}]}


if __name__ == "__main__":
    main()
