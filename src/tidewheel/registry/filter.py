"""A small filter language: `owner = anna and tags.team = 'risk' and metrics.rmse < 60`.

A comparison names a field, an operator and a value; comparisons are joined by `and`, `or`, `not` and brackets.
Operators: `=`, `!=`, `<`, `<=`, `>`, `>=`, `like` (`%` any text, `_` any character), `ilike` (the same whatever the
case), `in (...)`, `is null`, `is not null`. Text needs quotes only where it is more than one word. As in SQL, a
comparison with a field that is not there is not true, whatever the operator.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import InvalidInput, NotFound

MOST = 4_000  # characters of a filter
DEEPEST = 50  # brackets and `not` inside each other

Facts = Mapping[str, Any]  # what is known, by field: text, number, or a list of texts
Predicate = Callable[[Facts], bool]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?P<sign><=|>=|!=|<>|==|=|<|>|\(|\)|,)"
    r"|(?P<quoted>[A-Za-z_]+\.`[^`]+`)|(?P<word>[^\s'\"()<>=!,`]+))"
)
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str  # text, sign, word or end
    value: str  # without quotes
    at: int  # where it stands

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or signs."""
        return self.kind in ("word", "sign") and self.value.lower() in words


def read_filter(text: str, fields: tuple[str, ...], families: tuple[str, ...]) -> Predicate:
    """Return what decides whether facts pass; `fields` may be named, and `family.anything` for each of `families`.

    >>> passes = read_filter("owner = anna and metrics.rmse < 60", ("owner",), ("metrics",))
    >>> passes({"owner": "anna", "metrics.rmse": 59.5}), passes({"owner": "anna"})
    (True, False)

    Raises InvalidInput with the place of what cannot be read, NotFound with near names for an unknown field.
    """
    if len(text) > MOST:
        raise InvalidInput(f"The filter has {len(text):,} characters.", f"Write at most {MOST:,}.")
    reader = _Reader(_tokens(text), text, fields, families)
    found = reader.either(0)
    if reader.token.kind != "end":
        raise reader.refuse("`and`, `or` or the end")
    return found


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise InvalidInput(
                f"The filter cannot be read at character {at + 1}: {text[at : at + 20]!r}.",
                "Close every quote, and put names with spaces into backquotes: tags.`my team`.",
            )
        kind = str(found.lastgroup)
        raw = found.group(kind)
        if kind == "text":
            raw = raw[1:-1].replace(raw[0] * 2, raw[0])
        tokens.append(
            _Token(
                kind="word" if kind == "quoted" else kind,
                value=raw.replace("`", "") if kind == "quoted" else raw,
                at=found.start(kind),
            )
        )
        at = found.end()
    return [*tokens, _Token(kind="end", value="", at=end)]


class _Reader:
    """Recursive descent: `either` reads `or`, `both` reads `and`, `one` a comparison, a bracket or `not`."""

    def __init__(self, tokens: list[_Token], text: str, fields: tuple[str, ...], families: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._text = text
        self._fields = fields
        self._families = families
        self._place = 0

    @property
    def token(self) -> _Token:
        """The token that comes next."""
        return self._tokens[self._place]

    def either(self, depth: int) -> Predicate:
        """Read comparisons joined by `or`."""
        parts = [self.both(depth)]
        while self.token.says("or"):
            self._place += 1
            parts.append(self.both(depth))
        return parts[0] if len(parts) == 1 else lambda facts: any(part(facts) for part in parts)

    def both(self, depth: int) -> Predicate:
        """Read comparisons joined by `and`."""
        parts = [self.one(depth)]
        while self.token.says("and"):
            self._place += 1
            parts.append(self.one(depth))
        return parts[0] if len(parts) == 1 else lambda facts: all(part(facts) for part in parts)

    def one(self, depth: int) -> Predicate:
        """Read one comparison, something in brackets, or `not`."""
        if depth > DEEPEST:
            raise InvalidInput("The filter is nested too deeply.", f"Use at most {DEEPEST} brackets inside each other.")
        if self.token.says("not"):
            self._place += 1
            inner = self.one(depth + 1)
            return lambda facts: not inner(facts)
        if self.token.says("("):
            self._place += 1
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        return self._comparison()

    def refuse(self, wanted: str) -> InvalidInput:
        """Return the error that says what was wanted where the reader stands."""
        token = self.token
        found = "the end" if token.kind == "end" else repr(token.value)
        return InvalidInput(
            f"The filter wants {wanted} at character {token.at + 1}, not {found}: {self._text[:200]}",
            "Write it like: owner = anna and tags.team = 'risk' and metrics.rmse < 60",
        )

    def _comparison(self) -> Predicate:
        field = self._field()
        token = self.token
        self._place += 1
        if token.kind == "sign" and token.value in _SIGNS:
            return _compared(field, _SIGNS[token.value], self._value())
        if token.says("like", "ilike"):
            return _alike(field, self._value(), token.value.lower() == "ilike")
        if token.says("is"):
            absent = not self.token.says("not")
            self._place += 0 if absent else 1
            self._expect("null")
            return lambda facts: (facts.get(field) in (None, "", [])) is absent
        negated = token.says("not")
        if negated:
            token = self.token
            self._place += 1
        if token.says("in"):
            values = self._values()
            inside: Predicate = lambda facts: any(_compared(field, operator.eq, each)(facts) for each in values)  # noqa: E731
            return (lambda facts: facts.get(field) is not None and not inside(facts)) if negated else inside
        self._place -= 1
        raise self.refuse("an operator (= != < <= > >= like ilike in is)")

    def _field(self) -> str:
        token = self.token
        if token.kind != "word" or token.says("and", "or", "in", "is", "like", "ilike"):
            raise self.refuse("a field")
        family, mark, _ = token.value.partition(".")
        if token.value not in self._fields and not (mark and family in self._families):
            known = [*self._fields, *(f"{each}.NAME" for each in self._families)]
            raise NotFound("field to filter by", token.value, known)
        self._place += 1
        return token.value

    def _value(self) -> str:
        token = self.token
        if token.kind not in ("word", "text"):
            raise self.refuse("a value")
        self._place += 1
        return token.value

    def _values(self) -> list[str]:
        self._expect("(")
        values = [self._value()]
        while self.token.says(","):
            self._place += 1
            values.append(self._value())
        self._expect(")")
        return values

    def _expect(self, word: str) -> None:
        if not self.token.says(word):
            raise self.refuse(f"`{word}`")
        self._place += 1


def _compared(field: str, compare: Callable[[Any, Any], bool], value: str) -> Predicate:
    number = _number(value)

    def passes(facts: Facts) -> bool:
        found = facts.get(field)
        if found is None:
            return False
        if isinstance(found, list):  # aliases: `alias = champion` asks whether it is one of them
            return compare is operator.ne if value not in found else compare is operator.eq
        if isinstance(found, int | float) and not isinstance(found, bool):
            return number is not None and compare(found, number)
        text = str(found).lower() if isinstance(found, bool) else str(found)
        own = _number(text)
        if own is not None and number is not None:
            return compare(own, number)
        return compare(text, value)

    return passes


def _alike(field: str, pattern: str, whatever_case: bool) -> Predicate:  # noqa: FBT001 - called here alone
    wanted = pattern.lower() if whatever_case else pattern

    def passes(facts: Facts) -> bool:
        found = facts.get(field)
        texts = found if isinstance(found, list) else [] if found is None else [str(found)]
        return any(_matches(text.lower() if whatever_case else text, wanted) for text in texts)

    return passes


def _matches(text: str, pattern: str) -> bool:
    """Match `%` and `_` in time bounded by the product of the lengths; a regular expression may take for ever."""
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "%":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("_", text[at]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = resume, star + 1
        else:
            return False
    return not pattern[place:].strip("%")


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if found == found else None  # noqa: PLR0124 - NaN is no number to compare with
