"""The graph of a run: calls in columns by what they need, and its drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from tidewheel.pipelines.follow import step_name, worst
from tidewheel.pipelines.records import StepRecord
from tidewheel.pipelines.wiring import Arrow
from tidewheel.web.run_records import Graph, Node

MOST = 40  # boxes; with more calls those of one step share a box
WIDE, HIGH, GAP_X, GAP_Y = 168, 36, 56, 14  # pixels of a box and between boxes
LETTERS = 20  # characters that fit into a box


def flow(steps: Sequence[StepRecord], arrows: Sequence[Arrow]) -> Graph:
    """Return boxes and arrows of a run: a call each, or a step each when there are many calls."""
    alone = len(steps) <= MOST
    boxes: dict[str, list[StepRecord]] = {}
    for step in steps:
        boxes.setdefault(step.name if alone else step_name(step.name), []).append(step)
    given = list(dict.fromkeys(arrow.src for arrow in arrows if arrow.given))
    names = [*(f"given {name}" for name in given), *boxes]
    index = {name: at for at, name in enumerate(names)}
    ends = ((_box(arrow.src, alone=alone, given=arrow.given), _box(arrow.dst, alone=alone)) for arrow in arrows)
    drawn = dict.fromkeys((index[src], index[dst]) for src, dst in ends)
    between = [(src, dst) for src, dst in drawn if src != dst]
    layers = _layers(len(names), between)
    filled: Counter[int] = Counter()
    nodes = []
    for at, name in enumerate(names):
        calls = boxes.get(name, []) if at >= len(given) else []
        states = Counter(str(step.state) for step in calls)
        nodes.append(
            Node(
                name=given[at] if at < len(given) else name,
                calls=len(calls),
                state=worst(states) if states else "",
                layer=layers[at],
                place=filled[layers[at]],
            )
        )
        filled[layers[at]] += 1
    return Graph(nodes=tuple(nodes), arrows=tuple(between))


def _box(label: str, *, alone: bool, given: bool = False) -> str:
    if given:
        return f"given {label}"
    return label if alone else step_name(label)


def _layers(count: int, arrows: Sequence[tuple[int, int]]) -> list[int]:
    """Return for each box the length of the longest way to it; arrows back to an earlier box (loops) do not count."""
    layers = [0] * count
    for src, dst in sorted(arrows, key=lambda arrow: arrow[1]):
        if src < dst:
            layers[dst] = max(layers[dst], layers[src] + 1)
    return layers


def draw_flow(graph: Graph, links: Mapping[str, str]) -> Markup:
    """Draw the graph; `links` leads from the name of a box to its page."""
    if not graph.nodes:
        return Markup("")
    width = (max(node.layer for node in graph.nodes) + 1) * (WIDE + GAP_X) - GAP_X + 2
    height = (max(node.place for node in graph.nodes) + 1) * (HIGH + GAP_Y) - GAP_Y + 2
    parts = [_arrow(graph.nodes[src], graph.nodes[dst]) for src, dst in graph.arrows]
    parts += [_node(node, links.get(node.name, "")) for node in graph.nodes]
    label = f"Graph of {len(graph.nodes)} steps and parameters; the table below says the same."
    size = f"0 0 {width} {height}"
    drawing = Markup('<svg class="flow" role="group" width="{}" height="{}" viewBox="{}" aria-label="{}">{}</svg>')
    return drawing.format(width, height, size, label, Markup("").join(parts))


def _corner(node: Node) -> tuple[int, int]:
    return node.layer * (WIDE + GAP_X) + 1, node.place * (HIGH + GAP_Y) + 1


def _arrow(src: Node, dst: Node) -> Markup:
    (left, top), (right, bottom) = _corner(src), _corner(dst)
    x1, y1, x2, y2 = left + WIDE, top + HIGH / 2, right, bottom + HIGH / 2
    bend = max((x2 - x1) / 2, GAP_X / 2)
    return Markup('<path class="flows" d="M{} {}C{} {} {} {} {} {}"/>').format(
        x1, y1, x1 + bend, y1, x2 - bend, y2, x2, y2
    )


def _node(node: Node, link: str) -> Markup:
    x, y = _corner(node)
    many = f" x {node.calls:,}" if node.calls > 1 else ""
    room = LETTERS - len(many)
    shown = node.name if len(node.name) <= room else f"{node.name[: room - 1]}…"
    title = f"{node.name}{many}: {node.state.lower()}" if node.state else f"parameter {node.name}"
    box = Markup(
        '<g class="box {}"><title>{}</title><rect x="{}" y="{}" width="{}" height="{}" rx="8"/>'
        '<text x="{}" y="{}">{}</text></g>'
    ).format(node.state.lower() or "given", title, x, y, WIDE, HIGH, x + 12, y + HIGH / 2 + 5, f"{shown}{many}")
    return Markup('<a href="{}">{}</a>').format(link, box) if link else escape(box)
