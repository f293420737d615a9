"""What is downloaded: by hash, from whatever registry is set up, and with a plain word where there is none."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backhaul.toolchain import PROJECT
from stacks.downloads import DownloadError, download

LOCKS = sorted(PROJECT.glob("*.lock"))
PINNED = re.compile(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
STEPS = {
    ".venv/.installed": "The Python packages",
    "build/wheels/.installed": "The Lambda asset's packages as wheels",
    "node_modules/.installed": "The CDK CLI",
}
NOWHERE = {
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "PIP_EXTRA_INDEX_URL": "",
    "PIP_FIND_LINKS": "",
    "PIP_NO_CACHE_DIR": "1",
    "npm_config_registry": "http://127.0.0.1:9/",
    "npm_config_userconfig": os.devnull,
}
SECONDS_UNTIL_SET_UP_GIVES_UP = 60


def pinned(text: str) -> dict[str, str]:
    """Name and version of each package in a list or a lock of requirements."""
    return {name.lower().replace("_", "-"): version for name, version in PINNED.findall(text.replace("_", "-").lower())}


# What is written down


def test_every_requirement_is_locked_in_its_version_and_every_lock_agrees_with_the_constraints():
    constraints = pinned((PROJECT / "constraints.txt").read_text())
    locked = {lock.stem: pinned(lock.read_text()) for lock in LOCKS}
    assert locked.keys() == {"requirements", "requirements-emulator", "requirements-lambda", "requirements-tools"}
    for requirements in PROJECT.glob("requirements*.txt"):
        lock = locked[requirements.stem.removesuffix("-dev")]
        direct = pinned(requirements.read_text())
        assert direct
        assert direct.items() <= lock.items(), f"{requirements.name} changed: run make lock"
    for name, lock in locked.items():
        assert name == "requirements-tools" or lock.items() <= constraints.items()


def test_every_locked_package_has_its_hashes_and_no_lock_names_a_host():
    for lock in LOCKS:
        packages = re.split(r"\n(?=[a-z])", lock.read_text())[1:]
        assert packages
        assert not [package for package in packages if "--hash=sha256:" not in package]
    for path in (*LOCKS, PROJECT / "constraints.txt", PROJECT / "package-lock.json"):
        assert "://" not in path.read_text(), path.name


def test_what_npm_installs_is_locked_by_hash_too():
    packages = json.loads((PROJECT / "package-lock.json").read_text())["packages"]
    assert len(packages) > 1
    assert all(package["integrity"].startswith("sha512-") for name, package in packages.items() if name)


def test_setting_up_installs_by_hash_and_builds_with_what_is_installed():
    commands = [line for line in (PROJECT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert commands
    for command in commands:
        assert "--require-hashes" in command or "--no-deps --no-build-isolation --editable ." in command
    build = re.search(r'requires = \["(setuptools==[^"]+)"\]', (PROJECT / "pyproject.toml").read_text())
    assert build
    assert build[1] in (PROJECT / "requirements-dev.txt").read_text()


# Where nothing can be downloaded


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what setting up needs, with a `.venv` that is installed and nothing else that is."""
    for name in ("Makefile", "pyproject.toml", "package.json", "package-lock.json", "constraints.txt"):
        shutil.copy(PROJECT / name, tmp_path)
    for path in PROJECT.glob("requirements*"):
        shutil.copy(path, tmp_path)
    for name in ("backhaul", "stacks", "processors"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tmp_path / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    return tmp_path


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_setting_up_without_network_ends_soon_with_one_sentence(step: str, checkout: Path):
    if step == ".venv/.installed":
        shutil.rmtree(checkout / ".venv")
    done = ["--old-file=.venv/.installed"] if step != ".venv/.installed" else []
    began = time.monotonic()
    run = subprocess.run(
        [shutil.which("make") or "make", "--silent", *done, f"PYTHON={sys.executable}", step],
        cwd=checkout,
        env={**os.environ, **NOWHERE, "npm_config_cache": str(checkout / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert time.monotonic() - began < SECONDS_UNTIL_SET_UP_GIVES_UP
    assert run.returncode != 0
    assert not (checkout / step).exists()
    said, *others = [line for line in run.stderr.splitlines() if not line.startswith("make")]
    assert others == []
    assert re.fullmatch(rf"{STEPS[step]}.* could not be downloaded, because .*: check the network, .* again .*\.", said)


def test_a_failure_that_is_not_the_networks_names_what_the_tool_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("stacks.downloads.LOG", tmp_path / "downloads.log")
    say = "import sys; print('noise'); sys.exit('ERROR: No matching distribution found for tiny==1.0')"
    with pytest.raises(DownloadError, match=r"Tiny could not be installed .*:\nNo matching distribution .*tiny==1\.0$"):
        download("tiny", [sys.executable, "-c", say])
    assert "noise" in (tmp_path / "downloads.log").read_text()
