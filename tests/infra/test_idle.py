"""What a deployment costs that nobody uses, as its pages say it."""

from __future__ import annotations

from fractions import Fraction

from tests.infra import idle
from tests.infra.template import Template


def test_the_pages_say_what_the_template_costs_while_nobody_uses_it(template: Template):
    assert idle.documented(idle.COSTS) == idle.table(template), "python -m tests.infra.idle writes it anew"
    assert idle.documented(idle.README) == idle.sentence(template), "python -m tests.infra.idle writes it anew"


def test_an_idle_deployment_costs_little_more_than_its_alarms(template: Template):
    alarms, *others = idle.bill(template)
    assert alarms.dollars > 2 * sum((each.dollars for each in others), Fraction(0))
    assert idle.avoided() > Fraction(13, 10)
