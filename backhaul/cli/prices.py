"""The command `prices`: what AWS charges, as estimates reckon with it."""

from __future__ import annotations

from backhaul.cli.jobs import Json
from backhaul.cli.screen import emit_json, plain, plain_table, say, show
from backhaul.estimate.prices import AWS


def prices(json: Json = False) -> int:
    """Show the list prices of AWS that estimates use, where they are published, and when they were read.

    Example: `backhaul prices --json`
    """
    if json:
        emit_json(AWS)
        return 0
    say(f"List prices of {AWS.region} in US dollars, without free tiers, read in {AWS.read}.")
    table = plain_table("PRICE", "$", "FOR", "OF", "PUBLISHED AT")
    for name, each in AWS.prices.items():
        table.add_row(name, str(each.dollars), f"{each.units:,}", plain(each.what), each.source)
    for column in (0, 1, 2):
        table.columns[column].no_wrap = True
    show(table)
    return 0
