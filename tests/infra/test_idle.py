"""What a deployment costs that nobody uses, as its pages say it."""

from __future__ import annotations

from fractions import Fraction

from tests.infra import idle
from tests.infra.template import Template


def test_the_pages_say_what_the_template_costs_while_nobody_uses_it(template: Template):
    assert idle.documented(idle.COSTS) == idle.table(template)
    assert idle.documented(idle.README) == idle.sentence(template)


def test_an_idle_deployment_costs_at_most_a_dollar_and_a_half(template: Template):
    assert sum((each.dollars for each in idle.bill(template)), Fraction(0)) < Fraction(3, 2)
    assert idle.avoided() > Fraction(13, 10)
