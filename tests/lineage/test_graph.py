"""The graph: versions, executions, aliases, events and the walks over them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tidewheel.clock import new_id
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage import tables
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.graph import graph
from tidewheel.lineage.read import alias_history, current_alias, find_entity, list_events, list_versions, resolve
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import (
    add_version,
    append_event,
    ensure_entity,
    finish_execution,
    link,
    move_alias,
    start_execution,
)

AT = datetime(2026, 3, 1, tzinfo=UTC)


def test_versions_are_numbered_in_order_when_writers_race(any_store: Store) -> None:
    with any_store.database.transaction() as tx:
        entity = ensure_entity(tx, "dataset", "bikes", at=AT)

    def write(number: int) -> int:
        with any_store.database.transaction() as tx:
            return add_version(tx, entity.id, at=AT, digest=f"sha256:{number:064x}").seq

    with ThreadPoolExecutor(4) as pool:
        numbers = sorted(pool.map(write, range(12)))
    assert numbers == list(range(1, 13))


def test_ensure_entity_returns_the_same_one_when_called_again(any_store: Store) -> None:
    with any_store.database.transaction() as tx:
        first = ensure_entity(tx, "model", "bikes", at=AT, facets={"owner": "ada"})
        again = ensure_entity(tx, "model", "bikes", at=AT + timedelta(days=1))
    assert first == again
    assert first.facets == {"owner": "ada"}


@pytest.mark.parametrize("name", ["", "a b", "x:1", "x@y", "a" * 201, "-x", "näme"])
def test_names_that_cannot_be_addressed_are_refused(store: Store, name: str) -> None:
    with store.database.transaction() as tx, pytest.raises(InvalidInput, match="Use letters"):
        ensure_entity(tx, "model", name, at=AT)


def test_unknown_names_are_answered_with_near_ones(store: Store) -> None:
    with store.database.transaction() as tx:
        ensure_entity(tx, "model", "bikes", at=AT)
    with store.database.reading() as tx, pytest.raises(NotFound, match="Did you mean 'bikes'"):
        find_entity(tx, "model", "bike")


def test_references_resolve_to_newest_number_and_alias(any_store: Store) -> None:
    with any_store.database.transaction() as tx:
        entity = ensure_entity(tx, "model", "bikes", at=AT)
        versions = [add_version(tx, entity.id, at=AT, digest=f"sha256:{n:064x}") for n in range(3)]
        move_alias(tx, entity.id, "champion", versions[1].id, at=AT, by="ada", reason="best")
    with any_store.database.reading() as tx:
        assert resolve(tx, "model", "bikes").seq == 3
        assert resolve(tx, "model", "bikes:1") == versions[0]
        assert resolve(tx, "model", "bikes@champion") == versions[1]
        with pytest.raises(NotFound, match="newest is 3"):
            resolve(tx, "model", "bikes:9")
        with pytest.raises(NotFound, match="champion"):
            resolve(tx, "model", "bikes@champio")
        with pytest.raises(InvalidInput, match="name:3"):
            resolve(tx, "model", "bikes:last")


def test_an_alias_answers_for_any_moment_of_its_history(any_store: Store) -> None:
    with any_store.database.transaction() as tx:
        entity = ensure_entity(tx, "model", "bikes", at=AT)
        one, two = (add_version(tx, entity.id, at=AT, digest=f"sha256:{n:064x}") for n in range(2))
        move_alias(tx, entity.id, "champion", one.id, at=AT, by="ada", reason="first")
        move_alias(tx, entity.id, "champion", two.id, at=AT + timedelta(days=2), by="bob", reason="better")
        move_alias(tx, entity.id, "champion", None, at=AT + timedelta(days=4), by="bob", reason="withdrawn")
    with any_store.database.reading() as tx:
        held = [current_alias(tx, entity.id, "champion", as_of=AT + timedelta(days=day)) for day in (-1, 1, 3, 5)]
        assert [alias and alias.version_id for alias in held] == [None, one.id, two.id, None]
        assert [alias.reason for alias in alias_history(tx, entity.id)] == ["withdrawn", "better", "first"]


def test_the_audit_chain_shows_an_altered_and_a_removed_event(any_store: Store) -> None:
    with any_store.database.transaction() as tx:
        entity = ensure_entity(tx, "model", "bikes", at=AT)
        for number in range(4):
            append_event(tx, "policy.changed", {"n": number, "x": 0.1}, at=AT, by="ada", governs=True)
            append_event(tx, "noise", {}, at=AT)
    event = tables.event
    with any_store.database.reading() as tx:
        assert verify_chain(tx).intact
        assert verify_chain(tx).events == 4
        seqs = [item.seq for item in list_events(tx, type_prefix="policy.")]
        assert list_events(tx, subject_id=entity.id) == []
    with any_store.database.transaction() as tx:
        tx.execute(sa.update(event).where(event.c.seq == seqs[2]).values(actor="eve"))
        assert verify_chain(tx).broken_at == seqs[2]
        tx.execute(sa.update(event).where(event.c.seq == seqs[2]).values(actor="ada"))
        tx.execute(sa.delete(event).where(event.c.seq == seqs[1]))
        assert verify_chain(tx).broken_at == seqs[2]


def test_the_graph_walks_up_to_origins_and_down_to_consequences(any_store: Store) -> None:
    with any_store.database.transaction() as tx:
        data = ensure_entity(tx, "dataset", "rides", at=AT)
        model = ensure_entity(tx, "model", "bikes", at=AT)
        rows = add_version(tx, data.id, at=AT, digest="sha256:" + "a" * 64)
        run = start_execution(tx, kind="run", job="train", at=AT)
        step = start_execution(tx, kind="step", job="train.fit", at=AT, parent_id=run.id)
        fitted = add_version(tx, model.id, at=AT, digest="sha256:" + "b" * 64)
        other = add_version(tx, model.id, at=AT, digest="sha256:" + "c" * 64)
        link(tx, run.id, "used", rows.id, role="rows")
        link(tx, step.id, "part_of", run.id)
        link(tx, fitted.id, "generated", step.id)
        link(tx, fitted.id, "generated", step.id)
        finish_execution(tx, run.id, at=AT, state="SUCCEEDED", facets={"n": 1})
    with any_store.database.reading() as tx:
        up = graph(tx, fitted.id, down=False)
        down = graph(tx, rows.id, up=False)
        near = graph(tx, fitted.id, depth=1)
    assert {node.label: node.depth for node in up.nodes} == {"bikes:1": 0, "train.fit": -1, "train": -2, "rides:1": -3}
    assert {node.label for node in down.nodes} == {"rides:1", "train", "train.fit", "bikes:1"}
    assert {node.label for node in near.nodes} == {"bikes:1", "train.fit"}
    assert len(up.edges) == 3
    assert other.id not in {node.id for node in up.nodes}


def test_an_unknown_relation_is_refused(store: Store) -> None:
    with store.database.transaction() as tx, pytest.raises(NotFound, match="derived"):
        link(tx, new_id(), "derivd", new_id())


def test_nothing_is_kept_when_the_transaction_fails(any_store: Store) -> None:
    def fails() -> None:
        with any_store.database.transaction() as tx:
            entity = ensure_entity(tx, "model", "bikes", at=AT)
            add_version(tx, entity.id, at=AT, digest="sha256:" + "a" * 64)
            append_event(tx, "x", {}, at=AT, governs=True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    with any_store.database.reading() as tx:
        with pytest.raises(NotFound):
            find_entity(tx, "model", "bikes")
        assert list_events(tx) == []
        assert list_versions(tx, "x") == []
