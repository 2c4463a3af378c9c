"""Tell what runs and steps do in the words of OpenLineage (specification 2.0.2), as messages of the outbox.

A run is a job's run, a step is a child of it; what they used and generated are datasets with versions.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json
from tidewheel.lineage.outbox import AGAIN, Note
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.records import Execution

SPEC = "https://openlineage.io/spec"
_EVENT = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = {
    "DatasetVersionDatasetFacet": "1-0-1",
    "EnvironmentVariablesRunFacet": "1-0-0",
    "ErrorMessageRunFacet": "1-0-1",
    "ExecutionParametersRunFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "NominalTimeRunFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ParentRunFacet": "1-2-0",
    "ProcessingEngineRunFacet": "1-1-1",
    "SchemaDatasetFacet": "1-2-0",
    "SourceCodeLocationJobFacet": "1-1-0",
}
_OWN = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunFacet"  # what a facet of our own has to satisfy
_TYPES = {
    "RUNNING": "START",
    AGAIN: "START",
    "SUCCEEDED": "COMPLETE",
    "COMMITTED": "COMPLETE",
    "CACHED": "COMPLETE",
    "FAILED": "FAIL",
    "CANCELLED": "ABORT",
    "LOST": "ABORT",
    "SKIPPED": "ABORT",
}
_ENDS = frozenset({"COMPLETE", "FAIL", "ABORT"})
Where = Callable[[Execution], Mapping[str, str]]


def no_place(run: Execution) -> Mapping[str, str]:
    """Say that the place of a run's source code is not known."""
    del run
    return {}


class Teller:
    """Makes the messages of one project; `where` finds the source code of a run: url, path and version."""

    def __init__(self, namespace: str, version: str, where: Where = no_place) -> None:
        self._namespace = namespace
        self._version = version
        self._producer = f"urn:tidewheel:{version}"
        self._where = where

    def __call__(self, tx: Transaction, note: Note) -> dict[str, Any]:
        """Return the run event of a note; raises NotFound when its execution is gone."""
        execution = get_execution(tx, note.execution_id)
        run = get_execution(tx, execution.parent_id) if execution.parent_id else execution
        kind = _TYPES[note.state] if note.state != AGAIN or execution is run else "RUNNING"
        return {
            "eventType": kind,
            "eventTime": note.at.isoformat(),
            "producer": self._producer,
            "schemaURL": _EVENT,
            "run": {"runId": execution.id, "facets": self._run_facets(execution, run, note.state)},
            "job": {
                "namespace": self._namespace,
                "name": _name(execution, run),
                "facets": self._job_facets(execution, run),
            },
            "inputs": self._datasets(tx, execution, _INPUTS, sized=False),
            "outputs": self._datasets(tx, execution, _OUTPUTS, sized=True) if kind in _ENDS else [],
        }

    def _facet(self, schema: str, **values: Any) -> dict[str, Any]:
        place = f"{SPEC}/facets/{_FACETS[schema]}/{schema}.json#/$defs/{schema}"
        return {"_producer": self._producer, "_schemaURL": place, **values}

    def _run_facets(self, execution: Execution, run: Execution, state: str) -> dict[str, Any]:
        facets = run.facets
        found: dict[str, Any] = {
            "processing_engine": self._facet(
                "ProcessingEngineRunFacet",
                version=self._version,
                name="tidewheel",
                openlineageAdapterVersion=self._version,
            ),
            "tidewheel": {
                "_producer": self._producer,
                "_schemaURL": _OWN,
                "state": state,
                "code": execution.code_digest,
                "environment": run.environment_digest,
                "python": facets.get("python", platform.python_version()),
                "platform": facets.get("platform", ""),
                "commit": facets.get("commit", ""),
                "dirty": facets.get("dirty", False),
                "cause": facets.get("cause", {}),
                "reproduces": facets.get("reproduces", ""),
                "attempt": execution.facets.get("attempt", 1),
            },
        }
        if execution is not run:
            parent = {"run": {"runId": run.id}, "job": {"namespace": self._namespace, "name": run.job}}
            found["parent"] = self._facet("ParentRunFacet", **parent, root=parent)
        else:
            found |= self._circumstances(run)
        if state == "FAILED" and execution.error:
            found["errorMessage"] = self._facet(
                "ErrorMessageRunFacet", message=execution.error, programmingLanguage="python"
            )
        return found

    def _circumstances(self, run: Execution) -> dict[str, Any]:
        """Return what only the run itself has: its parameters, its environment variables, the time it was due."""
        parameters = [
            {"key": name, "name": name, "value": item if isinstance(item, str) else repr(item)}
            for name, item in run.parameters.items()
        ]
        variables = [{"name": name, "value": item} for name, item in run.facets.get("variables", {}).items()]
        found = {"executionParameters": self._facet("ExecutionParametersRunFacet", parameters=parameters)}
        if variables:
            found["environmentVariables"] = self._facet("EnvironmentVariablesRunFacet", environmentVariables=variables)
        cause = run.facets.get("cause", {})
        due = (cause.get("event") or cause).get("due")
        if isinstance(due, str) and "T" in due:
            found["nominalTime"] = self._facet("NominalTimeRunFacet", nominalStartTime=due)
        return found

    def _job_facets(self, execution: Execution, run: Execution) -> dict[str, Any]:
        kind = "PIPELINE" if execution is run else "STEP"
        found = {
            "jobType": self._facet("JobTypeJobFacet", processingType="BATCH", integration="TIDEWHEEL", jobType=kind)
        }
        place = self._where(run)
        if place:
            found["sourceCodeLocation"] = self._facet("SourceCodeLocationJobFacet", type="git", **place)
        return found

    def _datasets(self, tx: Transaction, execution: Execution, query: str, *, sized: bool) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for row in tx.rows(query, id=execution.id):
            facets = from_json(row["facets"])
            told = {
                "version": self._facet("DatasetVersionDatasetFacet", datasetVersion=f"{row['seq']}@{row['digest']}")
            }
            columns = (from_json(row["schema"]) or {}).get("columns") if row["schema"] else None
            if isinstance(columns, list):
                told["schema"] = self._facet("SchemaDatasetFacet", fields=[_field(column) for column in columns])
            dataset = {"namespace": self._namespace, "name": f"{row['kind']}/{row['name']}", "facets": told}
            if sized:
                rows = {"rowCount": facets["rows"]} if isinstance(facets.get("rows"), int) else {}
                statistics = self._facet("OutputStatisticsOutputDatasetFacet", size=int(row["size"]), **rows)
                dataset["outputFacets"] = {"outputStatistics": statistics}
            found[row["id"]] = dataset
        return list(found.values())


_VERSION = "SELECT v.id, v.seq, v.digest, v.size, v.schema, v.facets, n.kind, n.name FROM edge e"
_NAMED = "JOIN entity n ON n.id = v.entity_id"
_INPUTS = (
    f"{_VERSION} JOIN version v ON v.id = e.dst {_NAMED} WHERE e.src = :id AND e.relation = 'used'"
    " AND n.kind <> 'environment' AND e.role <> 'answer' ORDER BY e.role, e.idx"
)
_OUTPUTS = (
    f"{_VERSION} JOIN version v ON v.id = CASE e.relation WHEN 'generated' THEN e.src ELSE e.dst END {_NAMED}"
    " WHERE (e.dst = :id AND e.relation = 'generated') OR (e.src = :id AND e.relation = 'used' AND e.role = 'answer')"
    " ORDER BY e.idx"
)


def plain(tx: Transaction, note: Note) -> dict[str, Any]:
    """Return the message of a webhook: what happened to which run or step, in a few plain words."""
    execution = get_execution(tx, note.execution_id)
    state = "RUNNING" if note.state == AGAIN else note.state
    return {
        "event": f"{execution.kind}.{state.lower()}",
        "at": note.at.isoformat(),
        "id": execution.id,
        "run": execution.parent_id or execution.id,
        "job": execution.job,
        "state": state,
        "error": execution.error if note.state == "FAILED" else None,
        "started": execution.started.isoformat(),
        "seq": note.seq,
    }


def _name(execution: Execution, run: Execution) -> str:
    return run.job if execution is run else f"{run.job}.{execution.job}"


def _field(column: Mapping[str, Any]) -> dict[str, str]:
    return {"name": str(column["name"]), "type": str(column.get("detail") or column.get("type", ""))}
