"""The fields of a policy as a table: `python -m tests.policy_table` writes it into docs/api.md."""

from __future__ import annotations

from pathlib import Path

from backhaul.model.policy_fields import FIELDS, PolicyField

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
BEGIN, END = "<!-- policy: written by tests.policy_table -->\n", "<!-- end of policy -->\n"


def table() -> str:
    """Return the table as the page has it."""
    rows = (f"| `{each.name}` | {each.description} | {_range(each)} | {_default(each)} |" for each in FIELDS)
    return "\n".join(["| Field | What | Range | Default |", "|---|---|---|---|", *rows, ""])


def documented() -> str:
    """Return what stands between the marks of the page."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0]


def _range(field: PolicyField) -> str:
    return "" if field.least is None else f"{field.least:,} to {field.most:,}"


def _default(field: PolicyField) -> str:
    if field.default is None:
        return "any"
    return f"`{str(field.default).lower()}`" if isinstance(field.default, bool) else f"{field.default:,}"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}")
