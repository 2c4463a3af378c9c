"""Say what was found: constructors of findings, their order and a plain table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidewheel.data.records import Finding
from tidewheel.errors import ValidationFailed

COLUMNS = ("severity", "column", "code", "expected", "seen")


def error(column: str, code: str, expected: str, seen: str, message: str) -> Finding:
    """Return a finding that stops a run."""
    return Finding(column=column, code=code, severity="error", expected=expected, seen=seen, message=message)


def warning(column: str, code: str, expected: str, seen: str, message: str) -> Finding:
    """Return a finding that is kept and stops nothing."""
    return Finding(column=column, code=code, severity="warning", expected=expected, seen=seen, message=message)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return errors first, otherwise in the order in which they were found."""
    return sorted(findings, key=lambda finding: finding.severity != "error")


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that stop a run."""
    return [finding for finding in findings if finding.severity == "error"]


def refusal(name: str, findings: Sequence[Finding], *, mend: str) -> ValidationFailed:
    """Return the error that a refused table raises, its findings printed as a table."""
    count = len(errors_of(findings))
    what = f"The rows do not fit dataset {name!r}: {count} error{'s' if count != 1 else ''}."
    return ValidationFailed(f"{what}\n{findings_table(findings)}", mend, findings)


def findings_table(findings: Sequence[Finding]) -> str:
    """Return findings as an aligned text table, errors first, each with its message below.

    >>> print(findings_table([error("hour", "missing", "int", "nothing", "Column 'hour' is missing.")]))
    severity  column  code     expected  seen
    error     hour    missing  int       nothing
              Column 'hour' is missing.
    """
    rows = [(item.severity, item.column, item.code, item.expected, item.seen) for item in ordered(findings)]
    widths = [max(len(row[index]) for row in [COLUMNS, *rows]) for index in range(len(COLUMNS))]
    lines = [_line(COLUMNS, widths)]
    for row, finding in zip(rows, ordered(findings), strict=True):
        lines += [_line(row, widths), " " * (widths[0] + 2) + finding.message]
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
