"""Which processors there are: the built-ins, a folder of the user's, and installed packages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from backhaul.model.errors import InvalidProcessor, UnknownProcessor
from backhaul.plugin.options import Option, describe_options, parse_options
from backhaul.plugin.processor import Processor

BUILT_IN = "backhaul.processors"
"""The package of the built-in processors, which are ordinary plug-ins."""
ENTRY_POINTS = "backhaul.processors"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,63}")
_NAME_IN_SOURCE = re.compile(rf"""\bname\b[^=\n]*=\s*["']({_NAME.pattern})["']""")


@dataclass(frozen=True)
class Description:
    """What callers may read of a processor."""

    name: str
    summary: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class Broken:
    """A processor that cannot be used: where it is, why, and the names it seems to claim."""

    place: str
    problem: str
    names: frozenset[str] = frozenset()

    def error(self) -> InvalidProcessor:
        """Return it as an exception."""
        return InvalidProcessor(f"{self.place}: {self.problem}")


@dataclass(frozen=True)
class Registry:
    """The processors that were found, by name, and those that are broken, which hide no others."""

    processors: Mapping[str, type[Processor]]
    broken: tuple[Broken, ...] = ()

    def names(self) -> list[str]:
        """Return the names of all processors that can be used, sorted."""
        return sorted(self.processors)

    def get(self, name: str) -> type[Processor]:
        """Return a processor's class; raises `UnknownProcessor`, or `InvalidProcessor` if it is broken."""
        if name in self.processors:
            return self.processors[name]
        for each in self.broken:
            if name in each.names:
                raise each.error()
        raise UnknownProcessor(name, self.names())

    def describe(self, name: str) -> Description:
        """Return a processor's summary and options; raises like `get`."""
        processor = self.get(name)
        summary = inspect.cleandoc(processor.__doc__ or "").partition("\n")[0]
        return Description(name, summary, describe_options(processor))

    def create(self, name: str, options: Mapping[str, Any] | None = None) -> Processor:
        """Return a processor with these options checked; raises `InvalidOption`, and like `get`."""
        processor = self.get(name)
        return processor(parse_options(processor, options or {}))


def find_processors(folder: Path | None = None) -> Registry:
    """Return the built-ins, those in the `*.py` files of the folder (if it exists), and the installed ones.

    An installed package offers classes as entry points of the group `backhaul.processors`.
    """
    found: list[tuple[str, type[Processor]]] = []
    broken: list[Broken] = []
    for place, load in _places(folder):
        result = load()
        if isinstance(result, Broken):
            broken.append(result)
        else:
            found += [(place, processor) for processor in result]
    return _sort_out(found, broken)


def files_claiming(name: str, folder: Path) -> list[Path]:
    """Return the files of a folder that seem to define a processor of this name; none of them is run."""
    return [path for path in _files_in(folder) if name in _claimed_in(path)]


def _files_in(folder: Path | None) -> list[Path]:
    # A dot: what editors and file systems leave beside a file.
    return [path for path in sorted(folder.glob("*.py")) if not path.name.startswith(("_", "."))] if folder else []


def _claimed_in(path: Path) -> frozenset[str]:
    return frozenset(_NAME_IN_SOURCE.findall(path.read_text(errors="replace")))


def _sort_out(found: list[tuple[str, type[Processor]]], broken: list[Broken]) -> Registry:
    usable: dict[str, tuple[str, type[Processor]]] = {}
    for place, processor in found:
        name, problem = processor.name, _problem(processor)
        if not problem and name in usable:
            problem = f"{_where(*usable[name])} is called {name!r} too; rename one of them."
        if problem:
            broken.append(Broken(_where(place, processor), problem, frozenset({str(name)})))
        else:
            usable[name] = place, processor
    # Of two with one name neither is used: which one was meant is not for us to guess.
    ambiguous = {name for each in broken for name in each.names}
    return Registry({name: each for name, (_, each) in usable.items() if name not in ambiguous}, tuple(broken))


_Load = Callable[[], "list[type[Processor]] | Broken"]


def _places(folder: Path | None) -> Iterator[tuple[str, _Load]]:
    built_in = importlib.import_module(BUILT_IN)  # by name: they import the package that imports this module
    for module in pkgutil.iter_modules(built_in.__path__, f"{built_in.__name__}."):
        yield f"built-in {module.name}", partial(_load_module, module.name)
    for path in _files_in(folder):
        yield str(path), partial(_load_file, path)
    for entry in entry_points(group=ENTRY_POINTS):
        yield f"entry point {entry.name} = {entry.value}", partial(_load_entry, entry)


def _load_module(name: str) -> list[type[Processor]]:
    return _defined_in(importlib.import_module(name))


def _load_file(path: Path) -> list[type[Processor]] | Broken:
    name = f"processor file {path.resolve()}"  # no name that an import statement could mean
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return Broken(str(path), "Python cannot load it.")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        del sys.modules[name]
        said = error.msg if isinstance(error, SyntaxError) and _is_file(path, error.filename) else error
        return Broken(f"{path}, line {_line_in(path, error)}", f"{type(error).__name__}: {said}", _claimed_in(path))
    return _defined_in(module)


def _load_entry(entry: EntryPoint) -> list[type[Processor]] | Broken:
    place = f"entry point {entry.name} = {entry.value}"
    try:
        processor = entry.load()
    except (Exception, SystemExit) as error:  # the package's own code may raise anything
        return Broken(place, f"{type(error).__name__}: {error}", frozenset({entry.name}))
    if not (isinstance(processor, type) and issubclass(processor, Processor)):
        return Broken(place, "It is not a subclass of Processor.", frozenset({entry.name}))
    return [processor]


def _defined_in(module: ModuleType) -> list[type[Processor]]:
    return [
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, Processor)
        and each.__module__ == module.__name__
        and not each.__name__.startswith("_")
    ]


def _problem(processor: type[Processor]) -> str:
    """Return how the class breaks the contract, or nothing."""
    own_name = vars(processor).get("name")
    if not isinstance(own_name, str) or not _NAME.fullmatch(own_name):
        return (
            "Give it a name of its own: a lower-case letter, then up to 63 lower-case letters, digits or hyphens "
            "(a class that is only a base for others begins with an underscore)."
        )
    if not issubclass(processor.Options, Processor.Options):
        return "Its Options must subclass Processor.Options."
    if processor.process is Processor.process and processor.process_chunk is Processor.process_chunk:
        return "Override process or process_chunk."
    reads: Any = processor.reads
    if isinstance(reads, type) or not all(hasattr(reads, method) for method in ("split", "read", "encode")):
        return "Set reads to a reader, with its parentheses: Lines(), JsonLines(), Csv() or Bytes()."
    return ""


def _line_in(path: Path, error: BaseException) -> int:
    if isinstance(error, SyntaxError) and _is_file(path, error.filename):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _is_file(path, frame.filename)]
    return (lines[-1] if lines else None) or 1


def _is_file(path: Path, filename: str | None) -> bool:
    # The path may be relative, but the import system makes its file names absolute.
    return filename is not None and Path(filename).resolve() == path.resolve()


def _where(place: str, processor: type[Processor]) -> str:
    try:
        return f"{place}, line {inspect.findsource(processor)[1] + 1}, class {processor.__name__}"
    except (OSError, TypeError):  # a package without its source
        return f"{place}, class {processor.__name__}"
