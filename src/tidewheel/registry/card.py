"""The card of a model version: what it is, where it comes from, what it is worth and what it is for, as Markdown.

The sections follow Mitchell et al., Model cards for model reporting (2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tidewheel.lineage.read import get_execution, get_version, list_aliases, list_executions
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.manifest import Manifest
from tidewheel.registry.annotated import TAG, read_annotations
from tidewheel.registry.versions import ModelVersion, get_model

_MISSING = "*Nobody has said it yet.*"
_FIELDS = 60  # columns that are listed


def model_card(store: Store, reference: str) -> str:
    """Return the card of `bikes:3`, `bikes@champion` or the newest `bikes`, as Markdown.

    Raises NotFound, MissingBlob or CorruptBlob when the manifest is gone or damaged.
    """
    version = get_model(store, reference, deleted=True)
    manifest = load_bundle(store, version.bundle_digest).manifest
    with store.database.reading() as tx:
        entity_id = get_version(tx, version.version_id).entity_id
        said = read_annotations(tx, entity_id)
        held = [alias for alias, holder in list_aliases(tx, entity_id).items() if holder == version.version_id]
        data = get_version(tx, version.dataset_version_id) if version.dataset_version_id else None
        run = get_execution(tx, version.run_id) if version.run_id else None
        judged = [
            each.facets
            for each in list_executions(tx, "evaluation", job=version.name, limit=200)
            if _concerns(each.facets.get("subject", {}), version)
        ]
    notes = said.get(0, {}) | said.get(version.seq, {})
    origin = {
        "run": f"{run.job}, {run.id}" if run else "",
        "parameters": ", ".join(f"{name} = {value}" for name, value in run.parameters.items()) if run else "",
        "dataset": data.digest if data else "",
    }
    lines = [
        *_head(version, manifest, notes, held),
        *_about(notes),
        *_worth(version, judged[0] if judged else {}),
        *_inputs(manifest),
        *_origin(version, manifest, origin),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _concerns(subject: Mapping[str, Any], version: ModelVersion) -> bool:
    of_version = version.version_id and subject.get("candidate_id") == version.version_id
    return bool(of_version or (version.run_id and subject.get("run_id") == version.run_id))


def _head(version: ModelVersion, manifest: Manifest, notes: Mapping[str, str], held: list[str]) -> Iterator[str]:
    yield f"# {_text(version.name)}, version {version.seq}"
    yield ""
    yield _text(notes.get("description", "")) or _MISSING
    yield ""
    tags = ", ".join(f"{name.removeprefix(TAG)} = {value}" for name, value in notes.items() if name.startswith(TAG))
    facts = {
        "owner": notes.get("owner", ""),
        "contact": notes.get("contact", ""),
        "licence": notes.get("licence", ""),
        "aliases": ", ".join(sorted(held)),
        "tags": tags,
        "task": version.task,
        "estimator": version.estimator,
        "stored as": ", ".join(entry.name for entry in manifest.formats),
        "registered": f"{version.at:%Y-%m-%d %H:%M} UTC by {version.by or 'somebody'}",
        "bundle": version.bundle_digest,
    }
    if version.deleted is not None:
        facts["deleted"] = f"{version.deleted.at:%Y-%m-%d} by {version.deleted.by}: {version.deleted.reason}"
    yield from _table(("", ""), [(name, value) for name, value in facts.items() if value])


def _about(notes: Mapping[str, str]) -> Iterator[str]:
    sections = {"intended_use": "Intended use", "limitations": "Limitations", "ethics": "Ethical considerations"}
    for name, title in sections.items():
        yield from (f"## {title}", "", _text(notes.get(name, "")) or _MISSING, "")


def _worth(version: ModelVersion, judged: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Metrics", "")
    rows = judged.get("n") or 0
    yield f"On {rows:,} held-out rows." if rows else "As given when it was registered."
    yield ""
    metrics = {**version.metrics}
    slices: Mapping[str, Any] = judged.get("slices") or {}
    yield from _table(("metric", "value"), [(name, f"{value:.6g}") for name, value in sorted(metrics.items())])
    if slices:
        names = sorted({name for part in slices.values() for name in part["metrics"]})
        yield from ("## Slices", "")
        yield from _table(
            ("slice", "rows", *names),
            [
                (name, f"{part['n']:,}", *(f"{part['metrics'].get(each, float('nan')):.6g}" for each in names))
                for name, part in slices.items()
            ],
        )
    gates = judged.get("gates") or []
    if gates:
        yield from ("## Gates", "")
        yield from _table(
            ("gate", "verdict", "reason"), [(each["gate"], each["verdict"], each["reason"]) for each in gates]
        )


def _inputs(manifest: Manifest) -> Iterator[str]:
    yield from ("## Inputs", "")
    rows = []
    for field in manifest.signature.fields[:_FIELDS]:
        seen = f"{field.low:.6g} to {field.high:.6g}" if field.low is not None and field.high is not None else ""
        if field.categories:
            seen = ", ".join(field.categories[:8]) + (", ..." if len(field.categories) > 8 else "")
        rows.append((field.name, field.kind + (" or null" if field.nullable else ""), seen))
    yield from _table(("field", "kind", "seen in training"), rows)
    more = len(manifest.signature.fields) - _FIELDS
    if more > 0:
        yield from (f"And {more} more.", "")
    if manifest.signature.classes:
        yield from (f"It answers with one of: {', '.join(map(str, manifest.signature.classes))}.", "")


def _origin(version: ModelVersion, manifest: Manifest, origin: Mapping[str, str]) -> Iterator[str]:
    yield from ("## Training", "")
    facts = {
        **origin,
        "rows of the baseline": f"{manifest.baseline.rows:,}",
        "code": manifest.code_digest,
        "python": manifest.lock.python,
        "platform": manifest.lock.platform,
        "packages": f"{len(manifest.lock.packages)} locked" if manifest.lock.packages else "",
        **{str(name): str(value) for name, value in version.facets.items()},
    }
    yield from _table(("", ""), [(name, value) for name, value in facts.items() if value])


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        return
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"
    yield ""


def _cell(value: object) -> str:
    return _text(str(value)).replace("|", "\\|").replace("\n", " ")


def _text(value: str) -> str:
    """Keep what people wrote from becoming HTML."""
    return value.replace("&", "&amp;").replace("<", "&lt;")
