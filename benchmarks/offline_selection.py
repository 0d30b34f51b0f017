"""How fast selection is: `sieve select` beside the published rule written straight down, and the streaming buffer.

    python benchmarks/offline_selection.py    # the whole corpus: 1.6 GB in a temporary folder
    python benchmarks/offline_selection.py --folder corpus --repetitions 5  # written once, and kept
    python benchmarks/offline_selection.py --rollouts 50000                 # a smaller one

The corpus is described in selection_corpus.py, the baseline in published_selection.py. Every run is a process of its
own, start of the interpreter included, with the corpus in the page cache; the contestants take turns. Memory is taken
in one further run: the largest sum over the process and all it started, shared pages counted once, every 50 ms. The
buffer's rows count the time in the buffer and its selector alone; their memory is mostly the stream itself.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

HERE = Path(__file__).parent
SIEVE = Path(sys.executable).parent / "sieve"
RATIO, ALPHA = "0.1", "0.2"
INTERVAL = 0.05
STREAM, CAPACITY = 200_000, 10_000


@dataclass
class Row:
    """One row of the table.

    Attributes:
        name: What was measured.
        command: How it is started.
        rollouts: How many it works through.
        compared: Whether its time is set beside the first row's. Otherwise it prints the seconds that count.
        seconds: Of every repetition.
        peak: Its largest memory, MiB.
    """

    name: str
    command: list[str]
    rollouts: int
    compared: bool = True
    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0


def main() -> None:
    """Write the corpus if it is not there, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the corpus is, or will be; a temporary one unless given")
    parser.add_argument("--rollouts", type=int, default=565_096, help="size of the corpus")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        corpus = arguments.folder or Path(temporary) / "corpus"
        if not any(corpus.glob("*.jsonl")):
            write = f"import sys; sys.path.insert(0, {str(HERE)!r}); import selection_corpus, pathlib; "
            write += f"selection_corpus.write_corpus(pathlib.Path({str(corpus)!r}), {arguments.rollouts})"
            subprocess.run([sys.executable, "-c", write], check=True)
        offline = offline_rows(corpus, Path(temporary), arguments.repetitions)
        print_table([*offline, *buffer_rows(arguments.repetitions)])


def offline_rows(corpus: Path, temporary: Path, repetitions: int) -> list[Row]:
    """The baseline first, then `sieve select`; their outputs must be equal."""
    outputs = [temporary / f"{number}.jsonl" for number in range(3)]
    plain = [sys.executable, str(HERE / "published_selection.py"), str(corpus), RATIO, ALPHA, str(outputs[0])]
    sieve = [str(SIEVE), "select", str(corpus), "--ratio", RATIO, "--alpha", ALPHA]
    # Reading it all also brings it into the page cache.
    rollouts = sum(file.read_bytes().count(b"\n") for file in corpus.glob("*.jsonl"))
    rows = [
        Row("published rule, plain Python", plain, rollouts),
        Row("`sieve select`", [*sieve, "-o", str(outputs[1])], rollouts),
        Row("`sieve select --workers 1`", [*sieve, "-o", str(outputs[2]), "--workers", "1"], rollouts),
    ]
    for _ in range(repetitions):
        for row in rows:
            take_time(row)
    for row in rows:
        take_memory(row)
    if len({output.read_bytes() for output in outputs}) > 1:
        sys.exit(f"the outputs differ: {', '.join(map(str, outputs))}")
    return rows


def buffer_rows(repetitions: int) -> list[Row]:
    """The streaming buffer, with batches of two sizes."""
    rows = []
    for batch in (1_000, 10_000):
        command = [sys.executable, str(HERE / "buffer_offers.py"), str(STREAM), str(CAPACITY), str(batch)]
        rows.append(Row(f"buffer, {CAPACITY:,} held, batches of {batch:,}", command, STREAM, compared=False))
    for _ in range(repetitions):
        for row in rows:
            take_time(row)
    for row in rows:
        take_memory(row)
    return rows


def take_time(row: Row) -> None:
    """Run a row's command once more, undisturbed."""
    start = time.perf_counter()
    said = subprocess.run(row.command, check=True, stdout=subprocess.PIPE, text=True).stdout
    row.seconds.append(time.perf_counter() - start if row.compared else float(said))


def take_memory(row: Row) -> None:
    """Run a row's command once more, and look at its memory all the while."""
    process = psutil.Popen(row.command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        row.peak = max(row.peak, memory(process) / 2**20)
        time.sleep(INTERVAL)


def memory(process: psutil.Process) -> int:
    """Proportional set size of a process and its descendants, bytes."""
    total = 0
    try:
        for each in [process, *process.children(recursive=True)]:
            total += each.memory_full_info().pss
    except psutil.Error:  # one of them has just ended
        pass
    return total


def print_table(rows: list[Row]) -> None:
    """Markdown; ratios are to the first row."""
    print("| | seconds, median | times as fast | rollouts/s | peak MiB |\n|---|---|---|---|---|")
    for row in rows:
        seconds = statistics.median(row.seconds)
        ratio = f"{statistics.median(rows[0].seconds) / seconds:.1f}" if row.compared else ""
        print(f"| {row.name} | {seconds:.2f} | {ratio} | {row.rollouts / seconds:,.0f} | {row.peak:.0f} |")


if __name__ == "__main__":
    main()
