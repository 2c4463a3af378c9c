"""Taking secrets out of text, also where a text comes in pieces."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from urllib.parse import quote, quote_plus

COVER = b"***"  # what stands where a secret stood
_LINE_BYTES = 8  # shorter lines of a secret of several lines are no secret by themselves


class Redactor:
    """Covers secrets in a stream of bytes; holds back what may turn out to be the beginning of one.

    >>> redactor = Redactor(["hunter2"])
    >>> redactor.feed(b"the word is hun"), redactor.feed(b"ter2."), redactor.rest()
    (b'the word is ', b'***.', b'')
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.forms = _forms(secrets)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown now."""
        if not self.forms:
            return data
        text = self._held + data
        spans = _spans(text, self.forms)
        safe = _first_unsure(text, self.forms)
        for start, end in spans:
            if start < safe <= end:
                safe = start  # what may go on together with the next piece is covered as one
                break
        self._held = text[safe:]
        return _covered(text[:safe], [span for span in spans if span[1] <= safe])

    def rest(self) -> bytes:
        """Return what was held back: nothing more comes."""
        text, self._held = self._held, b""
        return _covered(text, _spans(text, self.forms))

    def clean(self, text: str) -> str:
        """Return a whole text without the secrets."""
        data = text.encode("utf-8", "surrogatepass")
        return _covered(data, _spans(data, self.forms)).decode("utf-8", "surrogatepass")

    def finds(self, data: bytes) -> bool:
        """Say whether a secret stands in some bytes."""
        return any(form in data for form in self.forms)


def _forms(secrets: Iterable[str]) -> Sequence[bytes]:
    """Return each secret as it may be met: itself, its lines, and as literals, URLs and base64 write it."""
    found: dict[bytes, None] = {}
    for secret in secrets:
        raw = secret.encode("utf-8", "surrogatepass")
        lines = [line.strip() for line in raw.splitlines()]
        written = (repr(secret)[1:-1], json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
        in_urls = (quote(raw, safe=""), quote(raw), quote_plus(raw))
        forms = [raw, raw.strip(), *(text.encode("utf-8", "surrogatepass") for text in (*written, *in_urls))]
        forms += [base64.b64encode(raw), base64.urlsafe_b64encode(raw)]
        forms += [line for line in lines if len(line) >= _LINE_BYTES]
        found |= dict.fromkeys(form for form in forms if form)
    return tuple(found)


def _spans(text: bytes, forms: Sequence[bytes]) -> list[tuple[int, int]]:
    """Return where secrets stand; those that overlap or touch as one."""
    found: list[tuple[int, int]] = []
    for form in forms:
        at = text.find(form)
        while at >= 0:
            found.append((at, at + len(form)))
            at = text.find(form, at + 1)
    joined: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _first_unsure(text: bytes, forms: Sequence[bytes]) -> int:
    """Return where the first end of the text stands that may be the beginning of a secret."""
    longest = max(len(form) for form in forms)
    for start in range(max(0, len(text) - longest + 1), len(text)):
        end = text[start:]
        if any(len(form) > len(end) and form.startswith(end) for form in forms):
            return start
    return len(text)


def _covered(text: bytes, spans: Sequence[tuple[int, int]]) -> bytes:
    shown: list[bytes] = []
    before = 0
    for start, end in spans:
        shown += [text[before:start], COVER]
        before = end
    return b"".join([*shown, text[before:]])
