"""The errors: the drawn tree is the real one, and every code is stable."""

import re

import pytest

import backhaul
from backhaul.model import errors
from backhaul.model.errors import BackhaulError, CallerError


def real_tree(root: type[BackhaulError], depth: int = 0) -> list[tuple[int, str]]:
    return [(depth, root.__name__), *(each for child in root.__subclasses__() for each in real_tree(child, depth + 1))]


def drawn_tree() -> list[tuple[int, str, str | None]]:
    drawn = []
    for line in (errors.__doc__ or "").splitlines()[2:]:
        match = re.match(r"^([│├└─ ]*)(\w+)(?:\s+(\d{3})?)?", line)
        assert match, line
        drawn.append((len(match[1]) // 4, match[2], match[3]))
    return drawn


def ours(tree: list[tuple[int, str]]) -> list[tuple[int, str]]:
    return [(depth, name) for depth, name in tree if hasattr(errors, name)]


def test_the_tree_that_the_module_draws_is_the_real_one():
    assert [(depth, name) for depth, name, _ in drawn_tree()] == ours(real_tree(BackhaulError))


def test_the_drawn_statuses_are_the_real_ones():
    for _, name, status in drawn_tree():
        if status:
            assert getattr(errors, name).status == int(status), name


def test_every_error_of_the_module_is_drawn_once():
    defined = {name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__}
    drawn = [name for _, name, _ in drawn_tree()]
    assert sorted(defined) == sorted(drawn)
    assert {"BackhaulError", "CallerError", "OperatorError", "WorkError"} <= defined


def test_exactly_these_names_are_exported():
    assert sorted(backhaul.__all__) == [
        "Answer",
        "AnswerSchema",
        "AsJsonLines",
        "Bytes",
        "Chat",
        "Chunk",
        "ConcurrentProcessor",
        "Context",
        "Csv",
        "Embed",
        "Expected",
        "InvalidAnswer",
        "JsonLines",
        "Lines",
        "Message",
        "ModelRefused",
        "Permanent",
        "Processor",
        "PromptTooLong",
        "ProviderDown",
        "ProviderRejected",
        "Raw",
        "Record",
        "Transient",
        "UnsuitableInput",
        "Usage",
        "estimate_input",
        "estimate_tokens",
    ]
    assert all(hasattr(backhaul, name) for name in backhaul.__all__)


@pytest.mark.parametrize("name", [name for _, name in ours(real_tree(BackhaulError))])
def test_a_code_is_lower_case_words_and_only_callers_get_a_4xx(name):
    kind = getattr(errors, name)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert (400 <= kind.status < 500) == issubclass(kind, CallerError)


def test_codes_that_callers_see_are_unique():
    kinds = [getattr(errors, name) for _, name in ours(real_tree(CallerError))]
    codes = [kind.code for kind in kinds if kind is not errors.RequestRefused]
    assert len(set(codes)) == len(codes)
