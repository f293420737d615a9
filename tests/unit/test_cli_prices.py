"""`backhaul prices`: the prices of AWS that estimates reckon with, without a deployment."""

import json
from pathlib import Path

from backhaul.cli.app import run
from backhaul.estimate import prices

FILE = json.loads(Path(prices.__file__).with_name("prices.json").read_text())


def test_the_table_has_each_price_with_its_source_and_says_of_where_and_when_they_are(capsys):
    assert run(["prices"]) == 0
    said = capsys.readouterr()
    head, *lines = said.out.splitlines()
    assert head.split() == ["PRICE", "$", "FOR", "OF", "PUBLISHED", "AT"]
    for line, (name, each) in zip(lines, FILE["prices"].items(), strict=True):
        assert line.split()[:3] == [name, each["dollars"], f"{each['units']:,}"]
        assert line.split()[-1] == each["source"]
        assert each["what"] in line
    assert f"of {FILE['region']} in US dollars, without free tiers, read in {FILE['read']}." in said.err


def test_for_programs_it_is_the_file(capsys):
    assert run(["prices", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == FILE
