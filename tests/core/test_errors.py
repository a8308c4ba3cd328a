"""Errors: the tree that the module draws is the tree that is there, and each class has its exit code."""

from __future__ import annotations

import re

import pytest
from policyport.core import errors
from policyport.core.errors import PolicyportError


def classes(below: type[PolicyportError]) -> list[type[PolicyportError]]:
    return [below, *(found for child in below.__subclasses__() for found in classes(child))]


def test_the_drawn_tree_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"(\w+Error)\b", errors.__doc__)
    own = [c.__name__ for c in classes(PolicyportError) if c.__module__ == errors.__name__]
    assert drawn == own


@pytest.mark.parametrize(
    ("name", "code"),
    [("GateError", 1), ("UsageError", 2), ("ToolError", 2), ("BoardFaultError", 3), ("ParityError", 4)],
)
def test_each_class_has_its_exit_code(name: str, code: int) -> None:
    assert getattr(errors, name).exit_code == code


def test_a_message_says_what_where_expected_got_and_the_cure() -> None:
    error = PolicyportError("it failed", where="there", expected=1, got=0, cure="do this")
    assert str(error).splitlines() == [
        "it failed (there)",
        "  expected: 1",
        "  got:      0",
        "  cure:     do this",
    ]


def test_what_is_not_known_is_left_out() -> None:
    assert str(PolicyportError("it failed")) == "it failed"
