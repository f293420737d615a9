"""The real asset: complete, of the right platform, and the same each time.

Without wheels in `build/wheels/` the first of these tests fetches them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from backhaul.toolchain import PROJECT
from stacks.bundle import (
    HOST,
    LAMBDA,
    WHEELS,
    BundleError,
    Requirements,
    assemble,
    check,
    installed,
    own_dependencies,
    requirements,
    script_dependencies,
)
from stacks.licences import licences
from tests.infra.template import Template, text

RUNTIME = ("boto3", "botocore", "s3transfer", "dateutil", "urllib3", "six.py", "jmespath")
"""What the Lambda runtime itself brings."""
HANDLERS = sorted(path.stem for path in (PROJECT / "backhaul/stages").glob("*.py") if path.stem != "__init__")
AARCH64 = 183
"""ELF's number of the machine."""

PROCESSOR = '''# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "tiny==1.0",
# ]
# ///
"""A processor that needs a package."""
'''

TINY = Requirements(own=("tiny==1.0",))


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The asset for this machine, with a user's processor in it."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "processors").mkdir()
    (folder / "processors" / "mine.py").write_text('"""A user\'s file."""\n')
    return assemble(folder / "asset", target=HOST, processors=folder / "processors")


@pytest.fixture(scope="module")
def asset_for_aws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The asset for Lambda."""
    return assemble(tmp_path_factory.mktemp("aws") / "asset", target=LAMBDA, processors=Path("/no/processors"))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the Lambda runtime and no others."""
    folder = tmp_path_factory.mktemp("runtime")
    installed_here = Path(sysconfig.get_path("purelib"))
    for name in RUNTIME:
        (folder / name).symlink_to(installed_here / name)
    return folder


def import_in_isolation(handler: str, asset: Path, runtime: Path, environment: dict[str, str]) -> str:
    """Import a handler where there is only the asset and the runtime; return what went wrong, or nothing."""
    script = (
        f"import sys; sys.path[:0] = [{str(asset)!r}, {str(runtime)!r}]\n"
        f"import lambdas.{handler} as module\n"
        "assert callable(module.handler)\n"
        f"strangers = [each.__file__ for each in sys.modules.values() if '/site-packages/' in"
        f" (getattr(each, '__file__', None) or '')]\n"
        "assert not strangers, strangers\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", script],
        env={"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def test_a_handler_that_imports_what_the_asset_lacks_is_found(asset: Path, runtime: Path, tmp_path: Path):
    broken = Path(shutil.copytree(asset, tmp_path / "broken"))
    handler = broken / "lambdas" / "sweep.py"
    handler.write_text(f"import rich\n{handler.read_text()}")
    assert "No module named 'rich'" in import_in_isolation("sweep", broken, runtime, {})
    assert import_in_isolation("sweep", asset, runtime, {}) == ""


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_needs_nothing_but_the_asset_and_the_runtime(
    handler: str, asset: Path, runtime: Path, template: Template
):
    environment = template.functions()[handler]["Environment"]["Variables"]
    variables = {name: text(value) for name, value in environment.items()}
    assert import_in_isolation(handler, asset, runtime, variables) == ""


def test_the_asset_for_aws_holds_wheels_of_the_functions_python_and_machine(asset_for_aws: Path):
    compiled = list(asset_for_aws.rglob("*.so"))
    assert asset_for_aws / "msgspec" / "_core.cpython-313-aarch64-linux-gnu.so" in compiled
    for library in compiled:
        assert library.name.endswith((".cpython-313-aarch64-linux-gnu.so", ".abi3.so"))
        (machine,) = struct.unpack_from("<H", library.read_bytes(), 18)
        assert machine == AARCH64


def test_the_asset_holds_what_requirements_name_and_nothing_else(asset_for_aws: Path):
    required = {
        line.split("#")[0].strip().replace("-", "_")
        for line in (PROJECT / "requirements-lambda.txt").read_text().splitlines()
        if line.split("#")[0].strip()
    }
    found = {path.name.removesuffix(".dist-info") for path in asset_for_aws.glob("*.dist-info")}
    assert found == {each.replace("==", "-") for each in required}


def test_the_asset_carries_our_packages_and_the_users_processors(asset: Path):
    assert (asset / "processors" / "mine.py").is_file()
    assert (asset / "backhaul" / "py.typed").is_file()
    assert (asset / "backhaul" / "estimate" / "prices.json").is_file()
    assert {path.stem for path in (asset / "lambdas").glob("*.py")} >= set(HANDLERS)


def test_the_asset_bears_no_trace_of_the_machine_that_made_it(asset: Path, asset_for_aws: Path):
    for folder in (asset, asset_for_aws):
        names = {path.name for path in folder.rglob("*")}
        assert not names & {"__pycache__", "RECORD", "direct_url.json", "bin"}
        assert not (folder / "tests").exists()
        assert not [name for name in names if name.endswith(".pyc")]
        assert not [path for path in folder.rglob("*.py") if str(PROJECT).encode() in path.read_bytes()]


COPYLEFT = re.compile(r"GPL|MPL|EPL|CDDL|EUPL|OSL|SSPL|copyleft", re.IGNORECASE)
PERMISSIVE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "LLVM-exception", "MIT", "PSF-2.0", "Unicode-3.0"}


def test_every_package_in_the_asset_has_a_licence_that_asks_no_more_than_to_be_shown(asset: Path, asset_for_aws: Path):
    for folder in (asset, asset_for_aws):
        packages = licences(folder)
        assert {f"{each.name}-{each.version}".lower().replace("-", "_") for each in packages} == {
            path.stem.lower().replace("-", "_") for path in folder.glob("*.dist-info")
        }
        named = [each.licence for each in packages] + [part[2] for each in packages for part in each.parts]
        for licence in named:
            assert not COPYLEFT.search(licence)
            assert set(re.findall(r"[\w.-]+", licence)) - {"AND", "OR", "WITH"} <= PERMISSIVE, licence


def test_the_licences_texts_travel_in_the_asset_and_so_does_ours(asset_for_aws: Path):
    shown = (asset_for_aws / "THIRD_PARTY_LICENSES.md").read_text()
    for each in licences(asset_for_aws):
        assert f"| {each.name} | {each.version} | {each.licence} |" in shown
        assert len(each.text) > 500, f"{each.name} brings no licence"
        assert each.text.strip() in shown
    ours = (PROJECT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in ours
    assert "Copyright The Backhaul authors" in ours
    assert (asset_for_aws / "LICENSE").read_text() == ours


def test_the_project_names_its_licence_where_tools_look():
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"
    for name in ("package.json", "package-lock.json"):
        assert '"license": "Apache-2.0"' in (PROJECT / name).read_text()


def test_the_same_sources_make_the_same_asset(asset_for_aws: Path, tmp_path: Path):
    again = assemble(tmp_path / "again", target=LAMBDA, processors=Path("/no/processors"))
    assert contents(again) == contents(asset_for_aws)


@pytest.mark.parametrize("left_out", ["cli", "client", "local", "operations", "toolchain.py", "trial"])
def test_the_asset_leaves_out_what_no_function_uses(left_out: str, asset: Path):
    assert (PROJECT / "backhaul" / left_out).exists()
    assert not (asset / "backhaul" / left_out).exists()


def test_a_changed_docstring_of_the_command_line_leaves_the_asset_as_it_was_and_one_of_a_stage_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = tmp_path / "project"
    for package in ("backhaul", "lambdas"):
        shutil.copytree(PROJECT / package, project / package)
    for file in (each for each in PROJECT.iterdir() if each.is_file()):
        shutil.copy(file, project)
    monkeypatch.setattr("stacks.bundle.PROJECT", project)

    def assembled() -> dict[str, bytes]:
        return contents(assemble(tmp_path / "asset", target=HOST, processors=Path("/no/processors"), wheels=WHEELS))

    before = assembled()
    for file in (project / "backhaul/cli/submit.py", project / "backhaul/client/client.py"):
        file.write_text(f'"""Changed: {file.read_text()[3:]}')
    assert assembled() == before
    stage = project / "backhaul/stages/submit.py"
    stage.write_text(f'"""Changed: {stage.read_text()[3:]}')
    assert assembled() != before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_asset_is_small_enough_for_lambda(asset_for_aws: Path):
    size = sum(path.stat().st_size for path in asset_for_aws.rglob("*") if path.is_file())
    assert size < 50 * 1024**2


class TestProcessorsOwnDependencies:
    def test_a_processor_file_may_name_them(self):
        assert script_dependencies(PROCESSOR) == ["tiny==1.0"]

    @pytest.mark.parametrize(
        "source", ["", "import json\n", "# /// script\n# dependencies = []\n# ///\n", "# /// other\n# x = 1\n# ///\n"]
    )
    def test_most_name_none(self, source: str):
        assert script_dependencies(source) == []

    @pytest.mark.parametrize(
        ("block", "problem"),
        [
            ("# /// script\n# dependencies = [\n# ///\n", "no TOML"),
            ("# /// script\n# dependencies = 'tiny'\n# ///\n", "list of strings"),
            ("# /// script\n# a = 1\n# ///\n\n# /// script\n# b = 1\n# ///\n", "more than one"),
        ],
    )
    def test_a_wrong_block_is_refused_by_its_file(self, block: str, problem: str, tmp_path: Path):
        (tmp_path / "wrong.py").write_text(block)
        with pytest.raises(BundleError, match=rf"wrong\.py: .*{problem}"):
            requirements(tmp_path)

    def test_they_come_after_the_functions_own(self, tmp_path: Path):
        (tmp_path / "mine.py").write_text(PROCESSOR)
        (tmp_path / "other.py").write_text(PROCESSOR.replace("tiny", "another"))
        assert requirements(tmp_path).own == ("another==1.0", "tiny==1.0")
        assert "msgspec==" in requirements(tmp_path).locked

    def test_they_are_installed_once(self, tmp_path: Path, offline: Callable[[str], None]):
        offline("py3-none-any")
        folder = installed(TINY, LAMBDA, tmp_path / "wheels")
        assert (folder / "tiny.py").read_text() == "SIZE = 'tiny'\n"
        (folder / "mark").touch()
        assert (installed(TINY, LAMBDA, tmp_path / "wheels") / "mark").exists()

    def test_a_processor_that_needs_one_is_checked_with_it(
        self, tmp_path: Path, offline: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ):
        offline("py3-none-any")
        monkeypatch.setattr(
            "stacks.bundle.requirements", lambda folder: Requirements(own=tuple(own_dependencies(folder)))
        )
        monkeypatch.setattr(sys, "path", [*sys.path])
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "good.py").write_text(f"{PROCESSOR}import tiny\n")
        check(mine, tmp_path / "wheels")
        (mine / "bad.py").write_text("import tiny\nimport no_such_module\n")
        with pytest.raises(BundleError, match=r"would not work:\n.*bad\.py, line 2: .*no_such_module'$"):
            check(mine, tmp_path / "wheels")

    def test_a_dependency_without_a_wheel_for_lambda_is_refused_by_its_name(
        self, tmp_path: Path, offline: Callable[[str], None]
    ):
        offline("cp313-cp313-win_amd64")
        with pytest.raises(BundleError, match=r"wheels for Python 3\.13 on arm64 Lambda(.|\n)*tiny==1\.0"):
            installed(TINY, LAMBDA, tmp_path / "wheels")
        assert list((tmp_path / "wheels").iterdir()) == []

    def test_a_locked_package_is_installed_by_its_hash_alone(self, tmp_path: Path, offline: Callable[[str], None]):
        offline("py3-none-any")
        good = hashlib.sha256((tmp_path / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        for digest in ("0" * 64, None):
            other = Requirements(f"tiny==1.0 --hash=sha256:{digest}" if digest else "tiny==1.0")
            with pytest.raises(BundleError, match=r"(?i)hash"):
                installed(other, LAMBDA, tmp_path / "wheels")
        folder = installed(Requirements(f"tiny==1.0 --hash=sha256:{good}"), LAMBDA, tmp_path / "wheels")
        assert (folder / "tiny.py").exists()

    @pytest.fixture
    def offline(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Return a function that leaves pip nothing to find but one wheel with this tag."""

        def only(tag: str) -> None:
            with zipfile.ZipFile(tmp_path / f"tiny-1.0-{tag}.whl", "w") as wheel:
                wheel.writestr("tiny.py", "SIZE = 'tiny'\n")
                wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
                wheel.writestr("tiny-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
                wheel.writestr("tiny-1.0.dist-info/RECORD", "")
            monkeypatch.setenv("PIP_NO_INDEX", "1")
            monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))

        return only
