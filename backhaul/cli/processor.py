"""A processor on this machine, and its options as one writes them on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backhaul.model.errors import InvalidProcessor, InvalidRequest, UnknownProcessor
from backhaul.plugin.registry import Registry, files_claiming, find_processors

PROCESSORS = Path("processors")
"""Where a user's own processors lie, below the folder in which a command is run."""

ProcessorName = Annotated[str, typer.Option("--processor", "-p", help="The processor to run.", show_default=False)]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="An option of the processor; repeatable."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="The folder with your own processors; default: processors/ in the current folder.",
        exists=True,
        file_okay=False,
    ),
]


def registry_for(processor: str, folder: Path | None = None) -> Registry:
    """Return the processors among which to look for this one.

    Whoever uses a built-in, or an installed one, runs no file of the current folder: it may be anybody's. Raises
    `InvalidProcessor` where one of these files seems to define a processor of the same name.
    """
    installed = find_processors()
    if folder is not None or processor not in installed.processors:
        return find_processors(folder or PROCESSORS)
    for path in files_claiming(processor, PROCESSORS):
        raise InvalidProcessor(
            f"{path} seems to define a processor {processor!r}, but another processor has that name. Rename yours. "
            f"If the file defines no such processor, add --folder {PROCESSORS}."
        )
    return installed


def find(processor: str, folder: Path | None = None) -> Registry:
    """Return where the processor is; raises `InvalidRequest`, which says where it was looked for."""
    found = registry_for(processor, folder)
    folder = folder or PROCESSORS
    try:
        found.get(processor)
    except UnknownProcessor as error:
        missing = "" if folder.is_dir() else ", a folder that does not exist"
        raise InvalidRequest(f"{error} Your own processors are looked for in {folder.resolve()}{missing}.") from None
    return found


def parse_options(pairs: list[str]) -> dict[str, str]:
    """Return options written as KEY=VALUE; the deployment turns each text into the option's type."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE.", param_hint="--option")
        if name in options:
            raise typer.BadParameter(f"{name!r} is given twice.", param_hint="--option")
        options[name] = text
    return options
