"""The licences of the packages in the Lambda asset, read from the packages themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import PathDistribution
from pathlib import Path

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Licensed:
    """A package, the licence that it names, the licence's text, and the libraries that are compiled into it."""

    name: str
    version: str
    licence: str
    text: str
    parts: tuple[tuple[str, str, str], ...]
    """Name, version and licence of each library that its wheel's bill of materials lists."""


def licences(folder: Path) -> list[Licensed]:
    """Return the licences of the packages that are installed in a folder, sorted by name."""
    return [_licensed(path) for path in sorted(folder.glob("*.dist-info"))]


def page(packages: list[Licensed]) -> str:
    """Return the page of licences for the asset: a table, then the text of every licence."""
    rows = [f"| {each.name} | {each.version} | {each.licence} |" for each in packages]
    inside = [
        f"| {name} (in {each.name}) | {version} | {licence} |"
        for each in packages
        for name, version, licence in each.parts
    ]
    texts = [f"## {each.name} {each.version}\n\n```\n{each.text.strip()}\n```\n" for each in packages]
    head = "# Software of others in this asset\n\n| Package | Version | Licence |\n|---|---|---|\n"
    return head + "\n".join([*rows, *inside, "", *texts])


def _licensed(path: Path) -> Licensed:
    metadata = PathDistribution(path).metadata
    named = [*(metadata.get_all("License-Expression") or []), *(metadata.get_all("License") or []), UNKNOWN]
    files = metadata.get_all("License-File") or []
    found = [file for name in files for file in (path / "licenses" / name, path / name) if file.is_file()]
    return Licensed(
        name=metadata["Name"],
        version=metadata["Version"],
        licence=named[0].partition("\n")[0],
        text="\n\n".join(file.read_text(encoding="utf-8") for file in found),
        parts=tuple(part for bill in sorted(path.glob("sboms/*.json")) for part in _parts(bill)),
    )


def _parts(bill: Path) -> list[tuple[str, str, str]]:
    components = json.loads(bill.read_text(encoding="utf-8")).get("components", [])
    return sorted((each["name"], each.get("version", ""), _named(each.get("licenses", []))) for each in components)


def _named(licences: list[dict[str, dict[str, str] | str]]) -> str:
    """Return the licence of a component in a CycloneDX bill of materials: an expression, an SPDX ID or another name."""
    found = []
    for each in licences:
        licence = each.get("expression") or each.get("license") or {}
        found.append(licence if isinstance(licence, str) else licence.get("id") or licence.get("name") or UNKNOWN)
    return " AND ".join(found) or UNKNOWN
