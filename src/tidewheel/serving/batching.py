"""Score the requests of one moment together, one call per version; zero-wait: nobody waits for others to come."""

from __future__ import annotations

from collections.abc import Sequence

from tidewheel.errors import TidewheelError
from tidewheel.serving.arms import Answer, Arm
from tidewheel.serving.ask import Ask, Row

MOST_ROWS = 256  # of one call: a larger batch gains nothing per row and keeps others waiting

Scored = Answer | Exception


def score_all(asks: Sequence[tuple[Arm, Ask]]) -> list[Scored]:
    """Return the answer, or what was raised, to each request in order.

    Requests of one version are scored in one call; where that fails, each is scored alone. Versions on a game day,
    whose faults are drawn per request, and requests with many rows are scored alone from the start.
    """
    if len(asks) == 1:
        arm, ask = asks[0]
        return [_alone(arm, ask)]
    found: list[Scored | None] = [None] * len(asks)
    groups: dict[int, list[int]] = {}
    for place, (arm, ask) in enumerate(asks):
        if arm.fault or len(ask.rows) > MOST_ROWS // 2:
            found[place] = _alone(arm, ask)
        else:
            groups.setdefault(id(arm), []).append(place)
    for places in groups.values():
        for part in _parts(asks, places):
            for place, scored in zip(part, _together(asks, part), strict=True):
                found[place] = scored
    return [_alone(*asks[place]) if each is None else each for place, each in enumerate(found)]


def _parts(asks: Sequence[tuple[Arm, Ask]], places: Sequence[int]) -> list[list[int]]:
    """Cut the requests of one version into calls of at most MOST_ROWS rows."""
    parts: list[list[int]] = [[]]
    rows = 0
    for place in places:
        many = len(asks[place][1].rows)
        if rows + many > MOST_ROWS and parts[-1]:
            parts.append([])
            rows = 0
        parts[-1].append(place)
        rows += many
    return parts


def _together(asks: Sequence[tuple[Arm, Ask]], places: Sequence[int]) -> list[Scored]:
    if len(places) == 1:
        return [_alone(*asks[places[0]])]
    arm = asks[places[0]][0]
    rows: list[Row] = []
    for place in places:
        rows += arm.select(asks[place][1].rows)
    try:
        whole = arm.score(rows, "")
    except Exception:  # noqa: BLE001 - somebody's rows made it fail: each alone shows whose
        return [_alone(*asks[place]) for place in places]
    answers: list[Scored] = []
    start = 0
    for place in places:
        end = start + len(asks[place][1].rows)
        probability = None if whole.probability is None else whole.probability[start:end]
        answers.append(Answer(whole.output[start:end], probability))
        start = end
    return answers


def _alone(arm: Arm, ask: Ask) -> Scored:
    try:
        return arm.score(arm.select(ask.rows), ask.id)
    except TidewheelError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a model may raise anything; it is logged against its version
        return error
