"""Who uses a built-in processor in a folder of somebody else's files runs none of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backhaul.cli.app import run
from backhaul.cli.exits import Exit

COMMAND = str(Path(sys.executable).with_name("backhaul"))
RAN = "with open('ran', 'a') as file: print(__file__, file=file)\n"
SHADOWED = ("json", "msgspec", "typer", "rich", "backhaul", "sitecustomize", "jsonschema", "secrets", "processors")

pytestmark = pytest.mark.usefixtures("command_line")


@pytest.fixture
def foreign(tmp_path, file):
    """A folder with files that tell when they are run."""
    folder = tmp_path / "processors"
    folder.mkdir()
    (folder / "x.py").write_text(RAN)
    (folder / "json.py").write_text(RAN)
    (folder / "__init__.py").write_text(RAN)
    for name in SHADOWED:
        (tmp_path / f"{name}.py").write_text(RAN)
    info = tmp_path / "evil-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[backhaul.processors]\nevil = json:Evil\n")
    return tmp_path


def ran(folder):
    path = folder / "ran"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("processor", ["text-stats", "redact"])
def test_trying_a_built_in_runs_no_file_of_the_current_folder(foreign, processor):
    done = subprocess.run([COMMAND, "try", processor, "a.txt"], capture_output=True, timeout=60)
    assert (done.returncode, ran(foreign)) == (0, ""), done.stderr


def test_trying_a_built_in_with_a_schema_and_a_provider_runs_no_file_of_the_current_folder(foreign):
    provider = {"name": "p", "kind": "openai", "base_url": "https://127.0.0.1:1", "model": "m", "timeout_seconds": 1}
    (foreign / "provider.json").write_text(json.dumps(provider))
    options = ["-o", "provider=p", "-o", "prompt={{record}}", "-o", "format=lines", "-o", 'schema={"type":"object"}']
    command = [COMMAND, "try", "prompt", "a.txt", *options, "--provider", "provider.json"]
    subprocess.run(command, capture_output=True, timeout=60)
    assert ran(foreign) == ""


def test_an_estimate_and_a_capped_submission_of_a_built_in_run_no_file_of_the_current_folder(
    foreign, takes_uploads, capsys
):
    for command in (["estimate"], ["submit", "--max-cost", "5"]):
        run([*command, "a.txt", "-p", "text-stats"])
    assert ran(foreign) == ""


def test_a_processor_that_is_not_built_in_is_still_found_in_the_folder(foreign, capsys):
    assert run(["try", "mine", "a.txt"]) == Exit.REFUSED
    assert "x.py" in ran(foreign)


def test_the_folder_is_loaded_for_a_built_in_if_it_is_named(foreign, capsys):
    assert run(["try", "text-stats", "a.txt", "--folder", "processors"]) == 0
    assert "x.py" in ran(foreign)


def test_a_file_that_has_the_name_of_a_built_in_is_named_and_not_run(foreign, capsys):
    (foreign / "processors/mine.py").write_text(RAN + "class Mine:\n    name = 'redact'\n")
    assert run(["try", "redact", "a.txt"]) == Exit.FAILED
    assert "processors/mine.py seems to define a processor 'redact'" in capsys.readouterr().err
    assert ran(foreign) == ""
    assert run(["try", "text-stats", "a.txt"]) == 0
