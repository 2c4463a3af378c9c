"""How far the cache can be trusted: how many of its answers were executed again, and how many of those differed."""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.lineage.store import Store
from tidewheel.pipelines.transitions import StepState


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What is known of the answers of one step."""

    step: str  # its module and name
    hits: int  # calls that the cache had an answer for
    verified: int  # of these, how many were executed again
    different: int  # of those, how many gave something else

    @property
    def verified_share(self) -> float:
        """Share of hits that were executed again."""
        return self.verified / self.hits if self.hits else 0.0

    @property
    def different_share(self) -> float:
        """Share of verified hits that gave something else."""
        return self.different / self.verified if self.verified else 0.0


def verification(store: Store, step: str = "") -> list[Verification]:
    """Count the hits of each step that was ever verified, or of one step; the worst comes first."""
    with store.database.reading() as tx:
        told = tx.rows(
            "SELECT e.job, v.type, COUNT(*) AS many FROM event v JOIN execution e ON e.id = v.subject_id"
            " WHERE v.type IN ('step.verified_same', 'step.verified_different') GROUP BY e.job, v.type"
        )
        counts: dict[str, dict[str, int]] = {}
        for row in told:
            counts.setdefault(row["job"], {})[row["type"].rpartition("_")[2]] = int(row["many"])
        found = []
        for job, seen in counts.items():
            if step and step not in (job, job.rpartition(".")[2]):
                continue
            row_of = tx.row(
                "SELECT COUNT(*) AS many FROM execution WHERE kind = 'step' AND job = :job AND state = :state",
                job=job,
                state=StepState.CACHED,
            )
            verified = sum(seen.values())
            hits = (int(row_of["many"]) if row_of else 0) + verified
            found.append(Verification(step=job, hits=hits, verified=verified, different=seen.get("different", 0)))
    return sorted(found, key=lambda each: (-each.different_share, each.step))
