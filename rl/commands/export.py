"""``sieve export`` and ``sieve push``: a run's policy or reward model, for others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from rewards.files.held_folder import scratch_folder
from rl.commands.ending import MODEL_FAILURES, one_line
from rl.commands.options import one_of
from rl.files.quiet import quieten_libraries

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
PartOption = Annotated[str, typer.Option(help="policy, or mprm: the process reward model.")]
StepOption = Annotated[
    int | None, typer.Option(metavar="STEP", help="The checkpoint after this policy step; else the newest.")
]
LicenseOption = Annotated[
    str | None,
    typer.Option("--license", metavar="NAME", help="Of the model; else the base model's, where it is known."),
]


def export(
    run: RunArgument,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new folder.")],
    part: PartOption = "policy",
    step: StepOption = None,
    license: LicenseOption = None,
) -> None:
    """Write a run's policy or reward model as a plain Transformers folder, adapters merged, with a model card.

    `AutoModelForImageTextToText.from_pretrained` and vLLM load it, and every key and option of Sieve's that names a
    checkpoint. What a run goes on from (optimizers, buffer) is not in it. The card says where the model comes from,
    what was measured, and which keys were changed; paths and addresses of your machine are left out.

    Example: `sieve export runs/quickstart-20261121-101500 my_policy`
    """
    quieten_libraries()
    from rl.files.folders import check_new_folder, new_folder
    from rl.publishing import exporting

    with one_line("nothing was written", failed=MODEL_FAILURES):
        check_new_folder("FOLDER", folder)
        source = exporting.find_source(run, one_of("--part", part, get_args(exporting.Part)), step)
        with new_folder(folder) as partial:
            exporting.export(source, partial, license, folder.name)
        typer.echo(f"{source.folder} as {folder}")


def push(
    run: RunArgument,
    repository: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub; made if it is not there.")],
    part: PartOption = "policy",
    step: StepOption = None,
    license: LicenseOption = None,
    public: Annotated[bool, typer.Option("--public", help="Whether a new repository is seen by all.")] = False,
) -> None:
    """Upload what `sieve export` writes to the Hugging Face Hub, model card and all, as one commit.

    The token is huggingface_hub's own (`hf auth login`, or `HF_TOKEN`), and so is the hub's address (`HF_ENDPOINT`).

    Example: `sieve push runs/quickstart-20261121-101500 me/grid-policy --part mprm`
    """
    quieten_libraries("HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")  # an upload may take hours
    with one_line("nothing was uploaded, or not all of it", failed=MODEL_FAILURES), scratch_folder() as folder:
        from rl.publishing import pushing

        pushing.check_repository(repository)
        from rl.publishing import exporting

        source = exporting.find_source(run, one_of("--part", part, get_args(exporting.Part)), step)
        exporting.export(source, folder, license, repository)
        message = f"{part} after {source.checkpoint.name.replace('-', ' ')}"
        address = pushing.push(folder, repository, message, public)
        typer.echo(f"{source.folder} is at {address}")
