"""`&`, `|` and `.for_` against Boolean algebra, and what they remember and take."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput
from tidewheel.testing.triggers import Asking, Switch
from tidewheel.triggers.clockwork import cron
from tidewheel.triggers.monitored import drift, metric
from tidewheel.triggers.records import Reading, Rule, leaves

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
Formula = Any  # a letter, or ("and" | "or", formula, formula)
formulas: st.SearchStrategy[Formula] = st.recursive(
    st.sampled_from("abcde"), lambda inner: st.tuples(st.sampled_from(["and", "or"]), inner, inner), max_leaves=8
)


def rule_of(formula: Formula, on: frozenset[str]) -> Rule:
    if isinstance(formula, str):
        return Switch(formula, formula in on)
    left, right = (rule_of(part, on) for part in formula[1:])
    return left & right if formula[0] == "and" else left | right


def truth(formula: Formula, on: frozenset[str]) -> bool:
    if isinstance(formula, str):
        return formula in on
    left, right = (truth(part, on) for part in formula[1:])
    return (left and right) if formula[0] == "and" else (left or right)


def taken(formula: Formula, on: frozenset[str]) -> set[str]:
    """Return the letters whose causes a run takes: those that make the formula hold."""
    if not truth(formula, on):
        return set()
    return {formula} if isinstance(formula, str) else taken(formula[1], on) | taken(formula[2], on)


@given(formulas, st.frozensets(st.sampled_from("abcde")))
def test_combinations_hold_as_boolean_algebra_says(formula: Formula, on: frozenset[str]) -> None:
    rule = rule_of(formula, on)
    found = rule.look(Asking(NOON))
    assert found.holds == truth(formula, on)
    assert set(found.after) == set(found.numbers) == taken(formula, on)
    assert bool(found.mark) == found.holds
    letters = {item.name for item in leaves(rule) if isinstance(item, Rule)}
    assert {leaf.rule: leaf.holds for leaf in found.leaves()} == {letter: letter in on for letter in letters}
    assert set(found.keep) == {f"{letter} looked" for letter in letters}  # each goes on remembering


@given(formulas, st.frozensets(st.sampled_from("abcde")))
def test_the_tree_shows_which_leaf_held(formula: Formula, on: frozenset[str]) -> None:
    found = rule_of(formula, on).look(Asking(NOON)).tree()

    def check(node: dict[str, Any]) -> bool:
        parts = [check(part) for part in node.get("parts", [])]
        if not parts:
            assert node["holds"] == (node["rule"] in on)
            assert node["reason"] == f"{node['rule']} {'is' if node['holds'] else 'is not'} on"
        elif " | " in node["rule"] and all(part["rule"] in "abcde" for part in node["parts"]):
            assert node["holds"] == any(parts)
        return bool(node["holds"])

    assert check(found) == truth(formula, on)


def test_names_read_as_declared() -> None:
    a, b, c = (Switch(letter) for letter in "abc")
    assert ((a | b) & c).name == "(a | b) & c"
    assert (a & b | c).name == "a & b | c"
    assert (a & b & c).name == "a & b & c"
    assert (a | b).for_("90s").name == "(a | b).for_(90s)"


def look(rule: Rule, memory: dict[str, Any], minutes: float) -> Reading:
    found = rule.look(Asking(NOON + timedelta(minutes=minutes), memory))
    memory |= found.keep
    return found


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=30))
def test_lasting_is_due_once_every_look_of_the_time_held(looks: list[tuple[int, bool]]) -> None:
    memory: dict[str, Any] = {}
    minute, since = 0, None
    for passed, on in looks:
        minute += passed
        since = (minute if since is None else since) if on else None
        found = look(Switch("a", on).for_("10m"), memory, minute)
        assert found.holds == (since is not None and minute - since >= 10)


def test_after_it_was_acted_on_lasting_begins_anew() -> None:
    rule, memory = Switch("a").for_("10m"), dict[str, Any]()
    assert [look(rule, memory, minute).holds for minute in (0, 9, 10)] == [False, False, True]
    memory |= look(rule, memory, 10).after
    assert [look(rule, memory, minute).holds for minute in (11, 20, 21)] == [False, False, True]


def test_windows_are_asked_of_those_that_have_them() -> None:
    assert drift(psi=0.3).for_("4 windows") == drift(psi=0.3, windows=4)
    assert metric("churn", "auc", below=0.8).for_("1 window") == metric("churn", "auc", below=0.8, windows=1)


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: cron("0 3 * * *").for_("2 windows"), "not judged by windows"),
        (lambda: (drift() | cron("0 3 * * *")).for_("2 windows"), "not judged by windows"),
        (lambda: drift().for_("soon"), "90s"),
        (lambda: drift().for_(0), "not a duration"),
    ],
)
def test_what_cannot_last_is_refused(make: Callable[[], object], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        make()


def test_only_triggers_combine() -> None:
    with pytest.raises(InvalidInput, match="is not a trigger"):
        drift() & "cron"  # type: ignore[operator]
