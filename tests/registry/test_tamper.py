"""A version that was tampered with is refused wherever it is used, and `verify` says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pytest

from tidewheel.app import explain_version
from tidewheel.errors import CorruptBlob, InvalidInput, MissingBlob, NotFound, TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.manifest import encode_manifest
from tidewheel.registry.annotations import annotate
from tidewheel.registry.card import model_card
from tidewheel.registry.compare import compare_versions
from tidewheel.registry.traffic import Traffic
from tidewheel.registry.verification import verify_versions
from tidewheel.registry.versions import get_model, list_versions, register_model
from tidewheel.serving.deploy import deploy
from tidewheel.shipping.payload import import_folder, payload_of, write_folder

if TYPE_CHECKING:
    from tests.registry.conftest import BundleOf

Use = Callable[[Store], object]


def _file(store: Store, digest: str) -> Path:
    rest = digest.removeprefix("sha256:")
    (found,) = (file for file in (store.home / "blobs").rglob("*") if file.is_file() and str(file).endswith(rest[4:]))
    return found


def _form(store: Store) -> str:
    return load_bundle(store, get_model(store, "bikes:3").bundle_digest).manifest.formats[0].digest


def _overwrite(file: Path, data: bytes) -> None:
    file.chmod(0o644)
    file.write_bytes(data)


def _altered_weights(store: Store) -> None:
    file = _file(store, _form(store))
    _overwrite(file, file.read_bytes()[:-1] + b"!")


def _missing_weights(store: Store) -> None:
    _file(store, _form(store)).unlink()


def _extra_format(store: Store) -> None:
    digest = get_model(store, "bikes:3").bundle_digest
    manifest = load_bundle(store, digest).manifest
    entry = msgspec.structs.replace(manifest.formats[0], name="pickle", trust=True)
    changed = msgspec.structs.replace(manifest, formats=[*manifest.formats, entry])
    _overwrite(_file(store, digest), encode_manifest(changed))


def _row(store: Store, digest: str) -> None:
    with store.database.transaction() as tx:
        tx.run("UPDATE version SET digest = :digest WHERE seq = 3", digest=digest)


def _row_of_another_bundle(store: Store) -> None:
    _row(store, get_model(store, "bikes:1").bundle_digest)


def _row_of_nothing(store: Store) -> None:
    _row(store, "sha256:" + "0" * 64)


TAMPERED = [
    (_altered_weights, CorruptBlob, "no longer match their digest"),
    (_missing_weights, MissingBlob, "No bytes are kept"),
    (_extra_format, CorruptBlob, "no longer match their digest"),
    (_row_of_another_bundle, CorruptBlob, "the audit log says it was registered with sha256"),
    (_row_of_nothing, CorruptBlob, "the audit log says it was registered with sha256"),
]


def _deployed(store: Store) -> object:
    traffic = Traffic(model="bikes", seq=1, champion=3, at=store.clock.now(), by="test", reason="a test")
    return deploy(store, traffic)


def _explained(store: Store) -> object:
    return explain_version(store, "bikes:3", load_rows())


def load_rows() -> pl.DataFrame:
    return pl.DataFrame({"a": [0.5], "b": [0.5]})


USES: list[Use] = [_deployed, lambda store: payload_of(store, "bikes:3"), _explained]


@pytest.mark.parametrize(("tamper", "error", "said"), TAMPERED)
def test_tampered_version_is_refused_everywhere(
    bikes: Store, tamper: Callable[[Store], None], error: type[TidewheelError], said: str
) -> None:
    tamper(bikes)
    for use in USES:
        with pytest.raises(error, match=said):
            use(bikes)
    found = {each.version: each for each in verify_versions(bikes, "bikes")}
    assert [found[seq].sound for seq in (1, 2, 3)] == [True, True, False]
    assert any(said in problem for problem in found[3].problems)


def test_sound_versions_are_verified_form_by_form(bikes: Store) -> None:
    found = verify_versions(bikes, "bikes")
    assert [(each.version, each.sound, each.problems) for each in found] == [
        (3, True, ()),
        (2, True, ()),
        (1, True, ()),
    ]
    for each in found:
        forms = load_bundle(bikes, get_model(bikes, f"bikes:{each.version}").bundle_digest).manifest.formats
        assert each.formats == tuple(form.name for form in forms)
    (one,) = verify_versions(bikes, "bikes:2")
    assert one.version == 2
    with pytest.raises(NotFound):
        verify_versions(bikes, "trains")


def test_shipped_folder_that_was_altered_is_refused(bikes: Store, tmp_path: Path) -> None:
    for number, name in enumerate(("manifest.json", "model.onnx")):
        folder = write_folder(payload_of(bikes, "bikes:3"), tmp_path / str(number))
        (folder / name).write_bytes((folder / name).read_bytes() + b" ")
        with pytest.raises(CorruptBlob, match=name):
            import_folder(bikes, folder, name="copied")
    folder = write_folder(payload_of(bikes, "bikes:3"), tmp_path / "whole")
    assert import_folder(bikes, folder, name="copied").reference == "copied:1"
    assert import_folder(bikes, folder, name="copied").reference == "copied:1"
    assert len(list_versions(bikes, "copied")) == 1
    (folder / "model.json").write_text(json.dumps({"layout": 99}))
    with pytest.raises(InvalidInput, match="99"):
        import_folder(bikes, folder)


def test_card_tells_what_is_known(bikes: Store, bundle_of: BundleOf) -> None:
    annotate(
        bikes,
        "bikes",
        {"owner": "anna", "description": "Rentals <per> hour", "intended_use": "Planning", "tags.team": "risk"},
        by="anna",
    )
    annotate(bikes, "bikes:2", {"limitations": "Not | for snow"}, by="anna")
    text = model_card(bikes, "bikes:2")
    for said in (
        "# bikes, version 2",
        "Rentals &lt;per> hour",
        "| owner | anna |",
        "| tags | team = risk |",
        "## Intended use\n\nPlanning",
        "Not | for snow",
        "| rmse | 0.5 |",
        "| a | float | 0 to 1 |",
        get_model(bikes, "bikes:2").bundle_digest,
    ):
        assert said in text
    assert "Not | for snow" not in model_card(bikes, "bikes:1")
    register_model(bikes, "plain", bundle_of(bikes))
    assert "Nobody has said it yet" in model_card(bikes, "plain")


def test_comparison_says_what_callers_would_notice_and_who_is_better(bikes: Store) -> None:
    rows = pl.DataFrame({"a": np.linspace(0, 1, 60), "b": np.linspace(1, 0, 60) ** 2})
    rows = rows.with_columns(y=3.0 * pl.col("a") + np.random.default_rng(0).normal(size=60) * 0.1)
    found = compare_versions(bikes, "bikes:1", "bikes:3", rows=rows, label="y", timed=True)
    paired = {each.metric: each for each in found.paired}
    assert paired["rmse"].low > 0
    assert paired["rmse"].difference == pytest.approx(paired["rmse"].before - paired["rmse"].after)
    assert paired["rmse"].n == 60
    assert found.latency is not None
    assert 0 < found.latency.before < 1e6
    assert found.size.before > 1_000
    assert not found.breaking
    with pytest.raises(NotFound, match="column"):
        compare_versions(bikes, "bikes:1", "bikes:3", rows=rows, label="nothing")
