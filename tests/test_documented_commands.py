"""Every command of the README and of `docs` does what a reader is told.

Each is in the table below, which says how it is tried. A new command wants a new line there: `really`, with words that
make it small, where seconds suffice (`inside` this process, where it starts no Ray); else `dry` (the configuration
loads, and the placement fits), `parsed` (arguments and options are known), `options` (of a benchmark), `target` (of
make) or `script` (of a shell). What the commands read, the fixture `place` makes.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from rl.cli import app
from tests.fixtures import documented_examples
from tests.fixtures.documented_examples import DOCUMENTATION, ROOT, commands, files, mentions, nameless
from tests.fixtures.grid_benchmark import write_grid_benchmark
from tests.fixtures.preference_pairs import write_preferences
from tests.fixtures.runs import warm_python

# Ray's command line imports Ray Serve, which is behind Pydantic's times.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")]

RUN = "runs/quickstart-20261121-101500"  # as the README calls it
RECORD = {"image": "a.png", "question": "q", "steps_with_score": [{"step": "s", "score": 1}, {"step": "t", "score": 0}]}

Trial = Callable[[list[str], Path], None]


def really(more: str = "") -> Trial:
    """Run it, with more words at its end; Sieve with its imports behind it, which the run of `place` has to do."""

    def trial(words: list[str], place: Path) -> None:
        executable = [warm_python()] if words[0] == ".venv/bin/sieve" else []
        done = execute([*executable, *words, *more.split()], place)
        assert done.returncode == 0, done.stdout + done.stderr

    return trial


def inside(more: str = "") -> Trial:
    """Run it, with more words at its end, in this process, which has imported already what that takes."""

    def trial(words: list[str], place: Path) -> None:
        arguments = words[words.index(".venv/bin/sieve") + 1 :]
        with contextlib.chdir(place), pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(place)  # as PYTHONPATH=. does
            result = CliRunner().invoke(app, [*arguments, *more.split()])
        assert result.exit_code == 0, result.output

    return trial


dry = inside("--dry-run")  # of `sieve train`: up to where Ray would start


def by_the_fixture(words: list[str], place: Path) -> None:
    """`place` has run it, small, as the run that other commands are about."""
    assert (place / RUN / "summary.json").exists()


def parsed(words: list[str], place: Path) -> None:
    """Have Sieve or Ray read the arguments, and do nothing; of several commands in one, each. Variables count as 1."""
    from ray.scripts.scripts import cli as ray_commands

    words = [re.sub(r"\$\w+", "1", word) for word in words]
    starts = [index for index, word in enumerate(words) if Path(word).name in ("sieve", "ray")]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        command: Any = get_command(app) if Path(words[start]).name == "sieve" else ray_commands
        rest = words[start + 1 : end]
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context(command.name, rest)


def options(words: list[str], place: Path) -> None:
    """The benchmark is there, and knows every option."""
    file = f"{words[2].replace('.', '/')}.py" if words[1] == "-m" else words[1]
    benchmark = (ROOT / file).read_text(encoding="utf-8")
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in benchmark, word


def target(words: list[str], place: Path) -> None:
    """Make knows it."""
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def script(words: list[str], place: Path) -> None:
    """A shell can read it; tests/test_deploy.py knows more of it."""
    assert subprocess.run(["bash", "-n", words[1]], cwd=place, check=False).returncode == 0


SMALL = "engine.kind=hf learner.prompts=2 learner.samples=2 annotation.continuations=2 annotation.budget=fixed"
TRIALS: dict[str, Trial] = {
    "make quickstart": target,
    "make test": target,
    "make smoke": target,
    "make smoke EXTRA=gpu": target,
    "make setup EXTRA=gpu": target,
    "make rehearsal EXTRA=gpu": target,
    "make rehearsal EXTRA=gpu STAGES=machine": target,
    "make rehearsal": target,
    "python benchmarks/rehearsal.py --device cpu --expect": options,
    "make real": target,
    "make check": target,
    "make fuzz": target,
    "make docs": target,
    ".venv/bin/sieve doctor": parsed,  # tests/rl/instruments/test_doctor.py runs it
    ".venv/bin/sieve try configs/quickstart.yaml --html try.html": inside("engine.kind=hf --prompts 1"),
    ".venv/bin/sieve train configs/quickstart.yaml seed=1 learner.samples=16": dry,
    # Its tables are the reader's.
    ".venv/bin/sieve train configs/qwen2_5_vl_7b_8gpu.yaml --dry-run --gpu-gb 80": inside("task.name=grid"),
    f".venv/bin/sieve plan configs/quickstart.yaml --run {RUN} --gpus 8,64": inside(
        "task.name=my_task:make engine.kind=hf annotation.budget=fixed annotation.share_prefixes=false"
    ),
    f".venv/bin/sieve train --resume {RUN}": dry,  # tests/rl/test_end_to_end.py goes on
    ".venv/bin/sieve annotate configs/quickstart.yaml --prompts 400 -o corpus.jsonl": really(
        f"{SMALL} --prompts 2 -o annotated.jsonl"
    ),
    ".venv/bin/sieve steps answers.jsonl configs/quickstart.yaml task.steps=sentence": inside(),
    "PYTHONPATH=. .venv/bin/sieve steps answers.jsonl task.steps=my_steps:at_arrows": inside(),
    ".venv/bin/sieve select corpus.jsonl --ratio 0.25 --alpha 0.05 -o chosen.jsonl": inside(),
    f".venv/bin/sieve eval policy --run {RUN} --strategy all": really("--prompts 2 --n 2"),
    ".venv/bin/sieve eval policy configs/beliefs.yaml engine.kind=hf --n 1,8 --prompts 128 --steps 48": parsed,
    ".venv/bin/sieve eval prm --path VisualProcessBench --mprm CHECKPOINT": inside(),
    ".venv/bin/sieve train-outcome configs/quickstart.yaml --pairs pairs.jsonl -o FOLDER": inside("--held-out 0.5"),
    ".venv/bin/sieve convert-prm OpenGVLab/VisualPRM-8B -o visualprm": parsed,
    ".venv/bin/sieve make-policy my_policy --seed 1": parsed,
    ".venv/bin/sieve make-policy build/beliefs_policy --world C": parsed,
    ".venv/bin/sieve train configs/beliefs.yaml": dry,
    ".venv/bin/sieve make-policy facts --world H --world-seed 3": parsed,
    f".venv/bin/sieve board {RUN}": parsed,  # tests/rl/instruments/test_board.py opens it
    ".venv/bin/sieve report runs/bis runs/random": inside(),
    ".venv/bin/sieve report runs/bis runs/random -o comparison.html --rollouts 500": inside(),
    ".venv/bin/sieve study configs/studies/selectors.yaml --dry-run": inside(),
    f".venv/bin/sieve export {RUN} exported": inside(),
    f".venv/bin/sieve push {RUN} me/my-mprm --part mprm": parsed,  # tests/rl/publishing/test_pushing.py has a hub
    ".venv/bin/sieve train configs/quickstart.yaml engine.top_p=0.95 engine.min_p=0.02": dry,
    ".venv/bin/sieve study configs/studies/beliefs_loop.yaml --power": parsed,
    ".venv/bin/sieve study configs/studies/twin.yaml": parsed,
    ".venv/bin/sieve study configs/studies/selectors.yaml workers=2": parsed,  # it takes hours
    ".venv/bin/sieve study configs/studies/selectors.yaml --report": parsed,  # of hours of work
    "PYTHONPATH=. .venv/bin/sieve train configs/smoke.yaml engine.kind=hf task.name=my_task:make "
    "task.verifier=my_verifier:within_one selection.selector=my_selector:surprising "
    "learner.credit=my_credit:weakest_step": by_the_fixture,
    ".venv/bin/python -c from my_credit import weakest_step; from rewards.credit.examples import example "
    "print(weakest_step(example(outcomes=[1, 1, 0], scores=[[0.9, 0.8], [0.9, 0.1], [0.5]])))": really(),
    ".venv/bin/python -c from my_boxes import overlap; "
    'print(overlap("it is at 0 0 4 2", "", {"box": [0, 0, 4, 4]}))': really(),
    ".venv/bin/python make_pictures.py": really(),
    ".venv/bin/sieve train configs/smoke.yaml task.name=files task.train_files=[dots/train.csv] "
    "task.heldout_files=[dots/heldout.csv] engine.kind=hf --dry-run": inside(),
    ".venv/bin/sieve train configs/smoke.yaml task.name=files task.train_files=[dots/train.csv] "
    "task.heldout_files=[dots/heldout.csv] engine.kind=hf": really("workers=inline steps=1 output_dir=runs/dots"),
    ".venv/bin/ray get-auth-token --generate": parsed,
    "RAY_AUTH_MODE=token .venv/bin/ray start --head --port=6379": parsed,
    "RAY_AUTH_MODE=token .venv/bin/ray start --address=HEAD:6379": parsed,
    "RAY_AUTH_MODE=token RAY_ADDRESS=HEAD:6379 .venv/bin/sieve doctor": parsed,
    "RAY_AUTH_MODE=token RAY_ADDRESS=HEAD:6379 .venv/bin/sieve train configs/qwen2_5_vl_7b_2nodes.yaml": inside(
        "--dry-run task.name=grid"
    ),
    "sbatch deploy/sieve.sbatch configs/qwen2_5_vl_7b_2nodes.yaml output_dir=runs/two-nodes": script,
    "sbatch deploy/sieve.sbatch --resume runs/two-nodes": script,
    ".venv/bin/sieve train CONFIG --dry-run": dry,
    ".venv/bin/sieve plan CONFIG": parsed,
    ".venv/bin/sieve plan configs/qwen2_5_vl_7b_8gpu.yaml learner.prompts=512 --gpus 8,64,1024 --seconds "
    "rollout=480,annotate=320,score=96,learn=640,teach=60,sync=5,rounds=4,tokens=500": parsed,  # it takes 10 s
    ".venv/bin/sieve plan configs/qwen2_5_vl_7b_8gpu.yaml --gpu h100 --seconds tokens=500,prompt=1200": inside(),
    ".venv/bin/python benchmarks/plan.py RUN RUN …": options,
    ".venv/bin/sieve train configs/quickstart.yaml learner.algorithm=ppo learner.credit=outcome value.warm_up=3": dry,
    "python benchmarks/quickstart.py --out runs/benchmark": options,
    "python benchmarks/reward_model.py --out runs/reward_model": options,
    "python benchmarks/credit_rules.py --out runs/credit": options,
    "python benchmarks/loop.py --out runs/loop --kinds policy-1 shipped-1 trl": options,
    "python -m benchmarks.faults --out runs/faults": options,
    "python benchmarks/scoring.py": options,
    "python benchmarks/verdicts.py": options,
    "python benchmarks/families.py --write docs/models.md": options,
    "python benchmarks/families.py --further --write docs/models.md": options,
    "python benchmarks/scoring.py --steps 12 --rollouts 64": options,
    "python benchmarks/packed.py --repetitions 3 --layers 4": options,
    "python benchmarks/packed.py --repetitions 3 --layers 24": options,
    "python benchmarks/packed.py --repetitions 3 --layers 12 --hidden 512": options,
    "python benchmarks/packed.py --repetitions 3 --prompts 16 --image 84 --answer 40 "
    "--checkpoint rl/tiny_policy/grid_policy": options,
    "python benchmarks/engine.py": options,
    "python benchmarks/start.py --imports": options,
    "python benchmarks/start.py --out runs/start --configs quickstart": options,
    ".venv/bin/python benchmarks/label_limit.py": options,
    ".venv/bin/python benchmarks/policy_gradient.py configs/beliefs.yaml --set "
    "mprm.checkpoint=runs/warm/checkpoints/step-1/mprm": options,
    ".venv/bin/sieve annotate configs/beliefs.yaml engine.kind=hf workers=inline annotation.budget=fixed "
    "learner.samples=2 --prompts 4000 -o runs/warm.jsonl": parsed,
    ".venv/bin/python benchmarks/warm_reward_model.py runs/warm.jsonl": options,
    ".venv/bin/sieve study configs/studies/beliefs_selectors.yaml seeds=[0,1,2,3]": parsed,
    ".venv/bin/sieve study configs/studies/beliefs_loop.yaml": parsed,
    ".venv/bin/sieve study configs/studies/beliefs_rules.yaml": parsed,
    ".venv/bin/sieve study configs/studies/beliefs_tokens.yaml": parsed,
    ".venv/bin/sieve study configs/studies/tokens.yaml": parsed,
    ".venv/bin/python benchmarks/remaining_errors.py runs/studies/streams/*/run": options,
    ".venv/bin/python -m benchmarks.unlearning --arm outcome runs/unlearning/outcome-* "
    "--arm labels runs/unlearning/labels-* --arm frozen runs/unlearning/frozen-*": options,
    ".venv/bin/sieve train configs/beliefs.yaml engine.kind=hf workers=inline max_staleness=0 steps=1 "
    "annotation.share=0 mprm.warm_start=[runs/warm.jsonl] mprm.warm_start_epochs=3 "
    "mprm.warm_start_learning_rate=1e-3 output_dir=runs/warm": parsed,
    "python -m benchmarks.flatness --out runs/flatness": options,
    "python benchmarks/annotation.py --mprm runs/quickstart/checkpoints/step-40/mprm": options,
    "python benchmarks/offline_selection.py --repetitions 5": options,
}
DOCUMENTED = {" ".join(" ".join(words).split()): words for words in commands(DOCUMENTATION)}


def execute(words: list[str], place: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader would, in their folder; words that set a variable come first."""
    number = next(index for index, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    # The runs of this file are of the reader's own task, which later commands have to find, too.
    settings = {"PYTHONPATH": "."} | dict(word.split("=", 1) for word in words[:number])
    return subprocess.run(
        words[number:],
        cwd=place,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: the checkout, the files that pages show, a run of theirs, and what else the commands name."""
    place = tmp_path_factory.mktemp("reader")
    for name in ("configs", "benchmarks", "deploy"):
        (place / name).symlink_to(ROOT / name)
    (place / ".venv").symlink_to(sys.prefix)
    for name, contents in files(DOCUMENTATION).items():
        (place / name).write_text(contents, encoding="utf-8")
    (own_parts,) = [words for words in DOCUMENTED.values() if "task.name=my_task:make" in words]
    small = [f"output_dir={RUN}", "steps=1", "checkpoint_every=1", "evaluation.prompts=4"]
    done = execute([*own_parts, *small], place)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("bis", "random"):
        shutil.copytree(place / RUN, place / "runs" / name, ignore=shutil.ignore_patterns("checkpoints"))
    (place / "CHECKPOINT").symlink_to(place / RUN / "checkpoints" / "step-1" / "mprm")
    (place / "CONFIG").symlink_to(ROOT / "configs" / "smoke.yaml")
    (place / "answers.jsonl").write_text('"1: red 1 = 1\\n2: 1 * 4 = 4\\nAnswer: 4"\n' * 3)
    (place / "corpus.jsonl").write_text((json.dumps(RECORD) + "\n") * 4)
    (place / "VisualProcessBench").mkdir()
    write_grid_benchmark(place / "VisualProcessBench", 4)
    write_preferences(place, range(4))
    return place


def test_every_command_has_a_trial_and_every_trial_a_command() -> None:
    assert set(DOCUMENTED) - set(TRIALS) == set(), "say in TRIALS how these are tried"
    assert set(TRIALS) - set(DOCUMENTED) == set(), "no page has these any more"


@pytest.mark.parametrize("command", TRIALS)
def test_the_command_works(command: str, place: Path) -> None:
    TRIALS[command](DOCUMENTED[command], place)


def test_every_command_that_is_only_mentioned_exists() -> None:
    for words in mentions(DOCUMENTATION):
        command: Any = get_command(app)
        for word in words[1:]:
            if hasattr(command, "commands"):
                command = command.commands[word]
            elif word.startswith("-"):
                assert any(word in parameter.opts for parameter in command.params), words


def test_pages_are_read_as_their_reader_says() -> None:
    assert doctest.testmod(documented_examples).failed == 0


def test_every_example_names_its_file_and_fits_a_screen() -> None:
    assert nameless(DOCUMENTATION) == []
    for name, contents in files(DOCUMENTATION).items():
        assert len(contents.splitlines()) <= 25, name


def test_the_examples_do_what_they_say(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def example(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(name, place / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    within_one = example("my_verifier").within_one
    assert within_one("1: 4\nAnswer: 5", "4") and not within_one("Answer: 6", "4") and not within_one("", "4")
    assert within_one("9" * 5000, "4") is False
    overlap = example("my_boxes").overlap
    assert overlap("at 0 0 4 3", "", {"box": [0, 0, 4, 4]}) == {"iou": 0.75, "named": 1.0, "correct": True}
    assert overlap("at 0 0 4 2", "", {"box": [0, 0, 4, 4]}) == {"iou": 0.5, "named": 1.0, "correct": False}
    for text in ("", "no idea", "4 4 0 0", "9 9 9 9", "9" * 5000):
        assert not overlap(text, "", {"box": [0, 0, 4, 4]})["correct"]
    task = example("my_task").make(None)
    prompts = [task.prompt(split, index) for split in ("train", "heldout") for index in range(20)]
    assert len({prompt.images[0].tobytes() for prompt in prompts}) == 40
    assert task.prompt("train", 3).images[0].tobytes() == prompts[3].images[0].tobytes()
    found = [float(value) for value in (prompt.answer for prompt in prompts)]
    assert min(found) >= 1 and max(found) <= 9
