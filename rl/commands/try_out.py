"""``sieve try``: a few prompts through the parts of a run, shown as a person would check them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import FAILURE, one_line
from rl.commands.options import MOST_PROMPTS, MOST_SAMPLES, check
from rl.files.quiet import quieten_libraries


def try_out(
    config: Annotated[str, typer.Argument(metavar="CONFIG.yaml", help="The experiment.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="key.sub=value", help="Changes, for example task.steps=sentence.")
    ] = None,
    prompts: Annotated[int, typer.Option(metavar="P", help="Training prompts, the first ones.")] = 2,
    samples: Annotated[int, typer.Option(metavar="S", help="Answers to each of them.")] = 4,
    html: Annotated[Path | None, typer.Option("--html", metavar="OUT.html", help="Write it as a page, too.")] = None,
) -> None:
    """Try a configuration in a minute: a few prompts through its processor, engine, learner and reward model.

    In one process, without Ray. Shown are prompts as the model reads them, with special tokens and the tokens of their
    pictures; answers, cut into numbered steps; verdicts and why; a continuation from the end of each step; the MPRM's
    scores; how far engine and learner are apart, before and after a policy step and new weights; seconds and memory.
    It ends with warnings in plain words. Nothing is written, but for `--html`.

    Exit codes: 0 it went through, with or without warnings; 1 a stage failed; 2 the input is wrong.

    Example: `sieve try configs/quickstart.yaml policy.checkpoint=MODEL --html try.html`
    """
    quieten_libraries()
    from rewards.records import PromptError
    from rewards.users_code import UsersCodeError
    from rl.config import load_config
    from rl.config.api_keys import asked_elsewhere
    from rl.instruments.report.page import write_page
    from rl.instruments.trying.page import trial_page
    from rl.instruments.trying.remarks import find_warnings
    from rl.instruments.trying.terminal_view import print_trial
    from rl.instruments.trying.tryout import Tryout, small
    from rl.monitoring.terminal import open_terminal, say, waiting

    with one_line(wrong=(PromptError, UsersCodeError)):
        check(1 <= prompts <= MOST_PROMPTS, f"--prompts {prompts}: allowed is 1 to {MOST_PROMPTS:,}")
        told = f"allowed is 2 to {MOST_SAMPLES:,}, since answers are compared"
        check(2 <= samples <= MOST_SAMPLES, f"--samples {samples}: {told}")
        check(html is None or not html.is_dir(), f"--html {html} is a folder; allowed is the name of a file")
        resolved = load_config(config, overrides or [])
        tryout = Tryout(small(resolved, prompts, samples))
        terminal = open_terminal()
        for line in asked_elsewhere(resolved, ["served"]):
            say(terminal, line)
        tryout.run(lambda stage: waiting(stage, terminal))
        trial = tryout.trial
        trial.warnings = find_warnings(resolved, trial, tryout.task, tryout.verifier)
        print_trial(terminal, resolved, trial)
        if html is not None:
            write_page(html, trial_page(config, resolved, trial))
            say(terminal, f"written {html}")
    if trial.failure:
        raise typer.Exit(FAILURE)
