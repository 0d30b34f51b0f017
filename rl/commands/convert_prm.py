"""``sieve convert-prm``: a published reward model with code of its own, as Transformers' own class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rl.commands.ending import MODEL_FAILURES, one_line
from rl.errors import ConfigError

FILES = ["*.json", "*.safetensors", "*.txt", "tokenizer.model"]
"""What is fetched of a checkpoint on the hub: no code."""


def convert_prm(
    source: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="Its folder, or its name on the hub.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="The new checkpoint.")] = None,
) -> None:
    """Convert a checkpoint of the layout internvl_chat, such as VisualPRM-8B, to Transformers' own InternVL class.

    What it scores stays what it was; code that comes with it is neither fetched nor run.

    Example: `sieve convert-prm OpenGVLab/VisualPRM-8B -o visualprm`, and then train with
    `mprm.checkpoint=visualprm mprm.input_format=chat mprm.until=0`
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with one_line("nothing was written", failed=MODEL_FAILURES):
        from rl.files.folders import check_new_folder, new_folder
        from rl.files.named_checkpoint import fetch_files, refuse_absent, refuse_damaged

        if output is None:
            raise ConfigError("name the new checkpoint's folder with -o FOLDER")
        check_new_folder("-o", output)
        refuse_absent("CHECKPOINT", source)
        folder = fetch_files("CHECKPOINT", source, FILES)
        refuse_damaged("CHECKPOINT", folder)
        if not (folder / "config.json").is_file():
            raise ConfigError(f"CHECKPOINT: {folder} holds no config.json; allowed is the folder of a checkpoint")
        from rewards.models.internvl_chat.convert import convert

        with new_folder(output) as partial:
            try:
                parameters = convert(folder, partial)
            except ValueError as error:
                raise ConfigError(f"CHECKPOINT {source}: {' '.join(str(error).split())}") from None
        typer.echo(
            f"written    {output}: InternVLForConditionalGeneration, {parameters:,} parameters\n\n"
            f"next:      train with mprm.checkpoint={output} mprm.input_format=chat mprm.until=0"
        )
