"""Let an operation run on a store, or inside the caller's open transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store

Scope = Store | Transaction


@contextmanager
def writing(scope: Scope) -> Iterator[Transaction]:
    """Yield the caller's transaction, or one of the store's own that commits at the end."""
    if isinstance(scope, Store):
        with scope.database.transaction() as tx:
            yield tx
    else:
        yield scope


@contextmanager
def reading(scope: Scope) -> Iterator[Transaction]:
    """Yield the caller's transaction, or a reading one of the store's own."""
    if isinstance(scope, Store):
        with scope.database.reading() as tx:
            yield tx
    else:
        yield scope


def moment(scope: Scope, at: datetime | None) -> datetime:
    """Return the moment given, or the store's time; inside a caller's transaction it must be given."""
    if at is not None:
        return at
    if isinstance(scope, Store):
        return scope.clock.now()
    raise InvalidInput("Inside an open transaction the moment is not known.", "Give at=store.clock.now().")
