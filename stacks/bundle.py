"""The Lambda asset, put together without Docker: our packages, the user's processors, and wheels."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from backhaul.plugin.registry import find_processors
from stacks.downloads import DownloadError, download
from stacks.licences import licences, page

PROJECT = Path(__file__).resolve().parent.parent
WHEELS = PROJECT / "build" / "wheels"
"""Installed wheels, one folder for each set of requirements, so that only the first synth waits for pip."""

LICENCES = "THIRD_PARTY_LICENSES.md"
"""The file in the asset that names the packages of others, their licences and those licences' texts."""

_PACKAGES = ("backhaul", "lambdas")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")
_NOT_FOR_FUNCTIONS = frozenset({"cli", "client", "local", "operations", "toolchain.py", "trial"})
"""What of `backhaul/` only people and callers use. A change of it must not deploy the functions anew."""
_SCRIPT_METADATA = re.compile(r"(?m)^# /// script\s*$\n(?P<toml>(?:^#(?:| .*)$\n)+?)^# ///\s*$")
# Paths of this machine, and the order of an installation: whatever would make two assets of one source differ.
_TRACES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


class BundleError(Exception):
    """The asset cannot be put together; says what to change."""


@dataclass(frozen=True)
class Requirements:
    """What a set of wheels is installed from, in pip's own format."""

    locked: str = ""
    """Packages with their versions and hashes."""
    own: tuple[str, ...] = ()
    """What processor files name for themselves: installed by version, because a file names no hashes."""


@dataclass(frozen=True)
class Target:
    """What the wheels must run on: a name for people, and what tells pip."""

    name: str
    pip: tuple[str, ...]


LAMBDA = Target(
    "Python 3.13 on arm64 Lambda",
    (
        "--implementation=cp",
        "--python-version=3.13",
        # Amazon Linux 2023 has glibc 2.34; a wheel is tagged with the oldest glibc that it runs on.
        *(f"--platform={tag}_aarch64" for tag in ("manylinux2014", "manylinux_2_28", "manylinux_2_34")),
    ),
)
HOST = Target(f"Python {platform.python_version()} on {sysconfig.get_platform()}", ())


def assemble(output: Path, *, target: Target, processors: Path, wheels: Path = WHEELS) -> Path:
    """Fill the folder `output` with all that a function runs on the target, and return it.

    The same sources make the same files. Raises `BundleError`.
    """
    shutil.rmtree(output, ignore_errors=True)
    shutil.copytree(installed(requirements(processors), target, wheels), output)
    (output / LICENCES).write_text(page(licences(output)), encoding="utf-8")
    shutil.copy(PROJECT / "LICENSE", output)
    for package in _PACKAGES:
        shutil.copytree(PROJECT / package, output / package, ignore=_left_out)
    if processors.is_dir():
        shutil.copytree(processors, output / "processors", ignore=_LEFT_OUT)
    return output


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Return the names of a folder of ours that are not copied into the asset."""
    return {*_LEFT_OUT(folder, names), *(_NOT_FOR_FUNCTIONS if Path(folder) == PROJECT / "backhaul" else ())}


def check(processors: Path, wheels: Path = WHEELS) -> None:
    """Raise `BundleError` for processor files that the functions could not load, each with its place and problem."""
    if own_dependencies(processors):
        # What the files name for themselves need not be installed here; last on the path, it shadows nothing.
        sys.path.append(str(installed(requirements(processors), HOST, wheels)))
    broken = find_processors(processors).broken
    if broken:
        listed = "".join(f"\n{each.place}: {each.problem}" for each in broken)
        raise BundleError(f"Nothing was deployed, because these processors would not work:{listed}")


def script_dependencies(source: str) -> list[str]:
    """Return the dependencies that a processor file names for itself by inline script metadata (PEP 723)."""
    blocks = list(_SCRIPT_METADATA.finditer(source))
    if not blocks:
        return []
    if len(blocks) > 1:
        raise BundleError("more than one `# /// script` block")
    lines = blocks[0]["toml"].splitlines(keepends=True)
    try:
        metadata = tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))
    except tomllib.TOMLDecodeError as error:
        raise BundleError(f"the `# /// script` block is no TOML: {error}") from None
    dependencies = metadata.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(each, str) for each in dependencies):
        raise BundleError("`dependencies` in the `# /// script` block must be a list of strings")
    return dependencies


def own_dependencies(processors: Path) -> list[str]:
    """Return what the processor files in a folder name for themselves, sorted."""
    found: set[str] = set()
    for file in sorted(processors.glob("*.py")):
        try:
            found.update(script_dependencies(file.read_text(encoding="utf-8")))
        except BundleError as error:
            raise BundleError(f"{file}: {error}.") from None
    return sorted(found)


def requirements(processors: Path) -> Requirements:
    """Return what the functions need and what the processor files name for themselves."""
    locked = (PROJECT / "requirements-lambda.lock").read_text(encoding="utf-8")
    return Requirements(locked, tuple(own_dependencies(processors)))


def installed(requirements: Requirements, target: Target, wheels: Path) -> Path:
    """Return the folder that holds these requirements for the target, installed now or earlier."""
    constraints = PROJECT / "constraints.txt"
    parts = [target.name, *target.pip, requirements.locked, *requirements.own, constraints.read_text(encoding="utf-8")]
    folder = wheels / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    wheels.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=wheels) as scratch:
        fresh, locked = Path(scratch) / "installed", Path(scratch) / "requirements.lock"
        locked.write_text(requirements.locked, encoding="utf-8")
        _pip_install(["--require-hashes", "--no-deps", "-r", str(locked)], fresh, target)
        if requirements.own:
            _pip_install([*requirements.own, "-c", str(constraints)], fresh, target)
        _remove_traces(fresh)
        # Another synth may have been faster; the folder is complete or absent, never half full.
        if not folder.is_dir():
            fresh.rename(folder)
    return folder


def _pip_install(what: list[str], folder: Path, target: Target) -> None:
    options = ["--no-compile", "--only-binary=:all:", "--target", str(folder), *target.pip]
    name = f"the Lambda asset's packages as wheels for {target.name}"
    try:
        download(name, [sys.executable, "-m", "pip", "install", *options, *what])
    except DownloadError as error:
        raise BundleError(str(error)) from None


def _remove_traces(folder: Path) -> None:
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for name in _TRACES:
        for file in folder.glob(f"*.dist-info/{name}"):
            file.unlink()


if __name__ == "__main__":  # so that a set-up can fetch what every later synth finds
    try:
        for each in (LAMBDA, HOST):
            installed(requirements(PROJECT / "processors"), each, WHEELS)
    except BundleError as error:
        sys.exit(str(error))
