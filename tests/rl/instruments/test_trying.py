"""``sieve try``: the parts of the loop in this process, what it says of configurations that are wrong, and its page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console as Terminal
from typer.testing import CliRunner

from rewards.records import Prompt, Rollout, StepSpan
from rl.cli import app
from rl.config import Config, load_config
from rl.errors import ConfigError
from rl.instruments.step_preview import Piece
from rl.instruments.trying.page import trial_page
from rl.instruments.trying.remarks import find_warnings, step_lines
from rl.instruments.trying.terminal_view import print_trial
from rl.instruments.trying.trial import Boundary, RenderedPrompt, Stage, Trial, TriedAnswer
from rl.instruments.trying.tryout import Tryout, small
from tests.fixtures.builders import an_image
from tests.fixtures.chromium import chromium_page
from tests.fixtures.runs import ROOT

QUICKSTART = ROOT / "configs" / "quickstart.yaml"
STAGES = ["prompts", "engine", "answers", "learner", "log-probabilities", "MPRM", "step scores", "continuations"]
STAGES += ["policy step", "new weights", "answers after"]
EVIL = "</td><script>document.title='broken'</script>\x1b[31m\x00 שלום \u202egnp 😀 & <b>"


@contextmanager
def silent(stage: str) -> Iterator[None]:
    yield


def tried(*overrides: str) -> tuple[Config, Trial]:
    config = load_config(QUICKSTART, ["engine.kind=hf", *overrides])
    tryout = Tryout(small(config, 2, 4))
    tryout.run(silent)
    tryout.trial.warnings = find_warnings(config, tryout.trial, tryout.task, tryout.verifier)
    return config, tryout.trial


@pytest.fixture(scope="module")
def shipped() -> tuple[Config, Trial]:
    return tried()


def printed(config: Config, trial: Trial, **terminal: object) -> str:
    written = io.StringIO()
    print_trial(Terminal(file=written, width=120, highlight=False, **terminal), config, trial)  # type: ignore[arg-type]
    return written.getvalue()


def test_all_parts_of_the_loop_are_tried(shipped: tuple[Config, Trial]) -> None:
    config, trial = shipped
    assert (trial.failure, trial.dropped, [stage.name for stage in trial.stages]) == ("", 0, STAGES)
    assert [len(answers) for answers in trial.answers] == [4, 4]
    for rendered in trial.prompts:
        assert sum(rendered.picture_tokens) == rendered.picture_tokens[0] > 0
        assert ("<|image_pad|>", True) in rendered.pieces or any(
            "<|image_pad|> x" in text for text, _ in rendered.pieces
        )
        assert any(rendered.prompt.question in text for text, special in rendered.pieces if not special)
    for answer in trial.all_answers():
        steps = [piece for piece in answer.pieces if piece.number]
        assert len(steps) == len(answer.rollout.steps) == len(answer.scores) > 1
        assert answer.verdict.startswith("right: it states" if answer.rollout.outcome else "wrong: it")
    labelled = [answer for answer in trial.all_answers() if answer.boundaries]
    assert len(labelled) == trial.labelled == 2
    assert all(boundary.text and boundary.sampled for answer in labelled for boundary in answer.boundaries)
    assert trial.difference < 1e-4 and trial.difference_after < 1e-4
    assert trial.learned["grad_norm"] > 0, "weights that have not moved would say nothing of new ones"
    assert "16 prompts with 8 answers each" in step_lines(config, trial)[0]


def test_new_weights_that_never_arrive_would_be_seen(shipped: tuple[Config, Trial]) -> None:
    """What the difference after new weights is worth: without them it is above the other by far."""
    config = small(load_config(QUICKSTART, ["engine.kind=hf", "learner.learning_rate=0.01"]), 2, 4)
    tryout = Tryout(config)
    tryout._send = lambda: None  # type: ignore[method-assign]
    tryout.run(silent)
    lines = find_warnings(config, tryout.trial, tryout.task, tryout.verifier)
    assert tryout.trial.difference < 1e-4 < tryout.trial.difference_after
    assert any("after new weights: they are not the same model" in line for line in lines)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["engine.max_completion_tokens=6"], ["8 of 8 answers hit the length limit", "no answer is right (8 answers)"]),
        (["task.steps=blank_line"], ["no answer has more than one step: task.steps blank_line"]),
        (
            ["task.verifier=tests.rl.instruments.test_trying:refusing"],
            ["calls the reference itself wrong", "no answer"],
        ),
    ],
)
def test_a_configuration_that_is_wrong_is_told_so(overrides: list[str], words: list[str]) -> None:
    warnings = "\n".join(tried(*overrides)[1].warnings)
    for word in words:
        assert word in warnings


def refusing(completion: str, reference: str) -> bool:
    return False


def breaking(completion: str, reference: str) -> bool:
    raise RuntimeError("the oracle\nis silent")


def test_a_stage_that_fails_ends_it_in_words_with_what_was_seen() -> None:
    config, trial = tried("task.verifier=tests.rl.instruments.test_trying:breaking")
    assert [stage.name for stage in trial.stages] == STAGES[:2]
    assert trial.failure == trial.warnings[-1] and trial.failure.startswith("answers: task.verifier")
    assert "the oracle is silent" in trial.failure
    assert "prompt 1 of 2" in printed(config, trial) and "Total" in trial_page("x", config, trial)


def test_the_command_writes_a_page_and_ends_as_it_should(tmp_path: Path) -> None:
    page = tmp_path / "pages" / "try.html"
    result = CliRunner().invoke(app, ["try", str(QUICKSTART), "engine.kind=hf", "--prompts", "1", "--html", str(page)])
    assert result.exit_code == 0 and f"written {page}" in result.output, result.output
    assert "<title>sieve try" in page.read_text() and "prompt 1 of 1" in result.output
    wrong = {"policy.checkpoint=gone/": 2, "task.verifier=tests.rl.instruments.test_trying:breaking": 1}
    for override, code in wrong.items():
        result = CliRunner().invoke(app, ["try", str(QUICKSTART), "engine.kind=hf", override])
        assert result.exit_code == code and "Traceback" not in result.output


@pytest.mark.parametrize("option", [["--prompts", "0"], ["--samples", "1"], ["--html", "."]])
def test_options_out_of_range_are_refused(option: list[str]) -> None:
    assert CliRunner().invoke(app, ["try", str(QUICKSTART), *option]).exit_code == 2


def test_a_part_that_cannot_be_made_is_what_a_run_would_say() -> None:
    with pytest.raises(ConfigError, match="no-such"):
        tried("policy.checkpoint=no-such")


@pytest.fixture
def evil() -> Trial:
    """A trial whose every text means harm."""
    prompt = Prompt(EVIL, EVIL, EVIL, (an_image(size=(30, 20)),), EVIL)
    rollout = Rollout(EVIL, EVIL, 0, (1, 2, 3), (0.0,) * 3, EVIL, (StepSpan(0, 1), StepSpan(1, 2)), 0.0, "length", 0)
    pieces = Piece(1, 1, "", EVIL + "\n"), Piece(2, 1, "", EVIL * 20), Piece(0, 1, "", EVIL)
    boundaries = [Boundary(1, 4, EVIL, True), Boundary(0, 0, "", None)]
    answer = TriedAnswer(rollout, pieces, EVIL, f"wrong: it states {EVIL}", 0.5, [0.25, 0.75], boundaries)
    return Trial(
        [RenderedPrompt(prompt, ((EVIL, False), ("<|image_pad|> x 4", True)), 9, (4,))],
        [[answer]],
        ends=(EVIL,),
        stages=[Stage("answers", 1.0, 2.0)],
        difference=0.5,
        warnings=[EVIL],
        failure=EVIL,
    )


def test_texts_cannot_steer_the_terminal(evil: Trial) -> None:
    plain = printed(Config(), evil)
    assert not any(character in plain for character in "\x1b\x00\u202e") and "\\x1b[31m" in plain
    assert "\x1b[" in printed(Config(), evil, force_terminal=True, color_system="standard")


def test_colours_are_left_out_where_nobody_wants_them(evil: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = "\x1b[1;36m", "\x1b[36m"
    on_a_terminal = printed(Config(), evil, force_terminal=True, color_system="standard")
    assert any(code in on_a_terminal for code in coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any(code in printed(Config(), evil, force_terminal=True) for code in coloured)


def test_the_page_shows_texts_as_they_are_and_fits_every_screen(
    evil: Trial, shipped: tuple[Config, Trial], tmp_path: Path
) -> None:
    twice = replace(evil, prompts=[*evil.prompts, *shipped[1].prompts], answers=[*evil.answers, *shipped[1].answers])
    file = tmp_path / "try.html"
    file.write_text(trial_page(EVIL, shipped[0], twice), encoding="utf-8")
    with chromium_page(tmp_path / "profile") as page:
        page.open(file.as_uri())
        for width, dark in ((1280, False), (360, True)):
            page.look(width, dark)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.photograph(tmp_path / f"{width}.png")
        assert page.evaluate("document.title").startswith("sieve try </td><script>")
        assert page.evaluate("document.querySelectorAll('script').length") == 0
        assert page.evaluate("document.querySelectorAll('article').length") == 9
        assert page.evaluate("document.querySelector('.step-text').textContent").startswith("</td><script>")
        assert page.problems == [] and set(page.requests) == {file.as_uri()}
