"""The command line: ``sieve``. A command imports what is heavy where it uses it: ``sieve --help`` answers at once."""

from __future__ import annotations

import atexit
import sys
from contextlib import suppress

import typer

from rl.commands.annotate import annotate
from rl.commands.board import board
from rl.commands.convert_prm import convert_prm
from rl.commands.doctor import doctor
from rl.commands.ending import FAILURE, USER_ERROR, stop_as_on_ctrl_c, stop_no_more
from rl.commands.eval_policy import eval_policy
from rl.commands.eval_prm import eval_prm
from rl.commands.export import export, push
from rl.commands.lasting_output import lasting_output
from rl.commands.make_policy import make_policy
from rl.commands.make_real import make_real
from rl.commands.plan import plan
from rl.commands.report import report
from rl.commands.select import select
from rl.commands.steps import steps
from rl.commands.study import study
from rl.commands.train import train
from rl.commands.train_outcome import train_outcome
from rl.commands.try_out import try_out
from rl.workers.address_space import too_few_addresses

INTERRUPTED = 130
"""What Typer makes of Ctrl-C where no `one_line` sees it, as while a command still imports."""

app = typer.Typer(
    name="sieve",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""Online reinforcement learning for vision-language reasoning, with a process reward model that learns from
    the rollouts worth learning from.

    Start with `sieve train configs/quickstart.yaml`: about five minutes on a laptop, no GPU needed. Watch it with
    `sieve board runs`.

    Exit codes: 0 done, 1 it failed, 2 the input is wrong.""",
)
for command in (
    *(train, plan, doctor, report, board, make_policy, select, annotate, steps, train_outcome, study),
    *(make_real, convert_prm, export, push),
):
    app.command()(command)
app.command("try")(try_out)

evaluations = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Measure a reward model, or a policy."
)
evaluations.command("prm")(eval_prm)
evaluations.command("policy")(eval_policy)
app.add_typer(evaluations, name="eval")


def main() -> None:
    """Entry point of the ``sieve`` command."""
    stop_as_on_ctrl_c()
    with lasting_output() as unprinted:
        code = _run()
    for reason in unprinted:
        code = code or FAILURE
        with suppress(OSError):
            typer.echo(f"sieve: not all was printed: {reason}", err=True)
    atexit.register(stop_no_more)  # the last that is registered is called first
    sys.exit(code)


def _run() -> int | None:
    """Run the command that the arguments name; its exit code."""
    try:
        code: int | None = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return code
    except typer.TyperException as error:
        # Without a message it is the help, which has been shown.
        if message := " ".join(error.format_message().split()):
            typer.echo(f"sieve: {message[0].lower()}{message[1:]}", err=True)
        return error.exit_code
    except (ImportError, MemoryError) as error:
        if not (too_few := too_few_addresses()):
            raise
        typer.echo(f"sieve: {error or 'no memory'}: {too_few}", err=True)
        return USER_ERROR
    except (typer.Abort, KeyboardInterrupt):
        typer.echo("sieve: stopped", err=True)
        return FAILURE
