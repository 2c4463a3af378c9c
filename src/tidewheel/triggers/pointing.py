"""Triggers on aliases: a name points to another version."""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.clock import micros
from tidewheel.errors import NotFound
from tidewheel.lineage.read import current_alias, find_entity, get_version
from tidewheel.lineage.write import check_name
from tidewheel.triggers.records import Context, Reading, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasMoved(Rule):
    """An alias of a model points to another version than at the last run."""

    model: str  # name of the model
    alias: str  # champion, challenger ...

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"alias({self.model}, {self.alias})"

    def look(self, context: Context) -> Reading:
        """Hold when the alias points elsewhere; one that was taken away points nowhere and starts nothing."""
        version, seq, since = self._now(context)
        memory = context.remembered(self.name)
        where = f"{self.model}@{self.alias} points to {f'version {seq}' if seq else 'nothing'}"
        if memory is None:
            return self._waits(f"counts from now on; {where}", version)
        if version == memory or not version:
            return self._waits(where)
        return Reading(
            rule=self.name,
            kind="alias",
            holds=True,
            reason=where,
            mark=f"{version}@{since}",
            numbers={"model": self.model, "alias": self.alias, "version": seq, "version_id": version},
            after={self.name: version},
        )

    def _now(self, context: Context) -> tuple[str, int, int]:
        with context.store.database.reading() as tx:
            try:
                held = current_alias(tx, find_entity(tx, "model", self.model).id, self.alias)
            except NotFound:
                return "", 0, 0
            if held is None or held.version_id is None:
                return "", 0, 0
            return held.version_id, get_version(tx, held.version_id).seq, micros(held.valid_from)

    def _waits(self, reason: str, remember: str | None = None) -> Reading:
        keep = {} if remember is None else {self.name: remember}
        return Reading(rule=self.name, kind="alias", holds=False, reason=reason, keep=keep)


def alias(model: str, name: str = "champion") -> AliasMoved:
    """Be due when an alias of a model is moved to another version, counted from the first look."""
    return AliasMoved(model=check_name("model", model), alias=check_name("alias", name))
