"""Bundles explain and check themselves; what is damaged, missing or unknown is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import CorruptBlob, InvalidInput, MissingBlob, NotFound, UnsupportedFormat, ValidationFailed
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, load_bundle, save_bundle
from tidewheel.models.encode import encode_model
from tidewheel.models.manifest import decode_manifest, encode_manifest
from tidewheel.models.model import Model
from tidewheel.models.signature import select

if TYPE_CHECKING:
    from tests.models.conftest import Table

ENVIRONMENT = {"python": "3.11.9", "platform": "linux", "packages": {"scikit-learn": "1.9.1"}}


def classifier(table: Table) -> Model:
    fitted = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(table.gaps, table.three)
    return Model(fitted, example=table.gaps.head(5), target="class")


def saved(store: Store, model: Model, rows: Any, **given: Any) -> Bundle:
    return save_bundle(store, model, rows=rows, environment=ENVIRONMENT, code_digest="code:1", **given)


def test_bundle_comes_back_with_all_it_knows(store: Store, table: Table) -> None:
    model = classifier(table)
    bundle = saved(store, model, table.gaps.with_columns(label=table.three), facets={"trial": 3})
    again = load_bundle(store, bundle.digest)
    assert again == bundle
    manifest = again.manifest
    assert manifest.signature.target == "class"
    assert manifest.signature.classes == [0, 1, 2]
    assert manifest.lock.packages == {"scikit-learn": "1.9.1"}
    assert (manifest.code_digest, manifest.facets) == ("code:1", {"trial": 3})
    assert "HistGradientBoostingClassifier" in manifest.estimator
    entry, native = manifest.formats
    assert (native.name, native.parity.largest) == ("skops", 0.0)
    assert (entry.name, entry.reason, entry.trust, entry.parity.rows) == ("onnx", "", False, table.gaps.height)
    again.verify()
    scores = again.scorer().score(table.gaps)
    np.testing.assert_array_equal(scores.prediction, model.predict(table.gaps))


def test_signature_is_widened_by_the_real_rows(store: Store, table: Table) -> None:
    model = Model(LinearRegression().fit(table.numbers, table.amount), example=table.numbers.head(2))
    found = saved(store, model, table.numbers).manifest.signature.fields[0]
    assert (found.low, found.high) == (table.numbers["f0"].min(), table.numbers["f0"].max())
    assert model.signature.fields[0].high != found.high


def test_baseline_holds_features_and_answers(store: Store, table: Table) -> None:
    model = classifier(table)
    baseline = saved(store, model, table.gaps).manifest.baseline
    assert baseline.rows == table.gaps.height
    assert list(baseline.columns) == [*table.gaps.columns, "prediction", "probability"]
    assert baseline.columns["f0"].nulls == table.gaps["f0"].null_count()
    prediction = baseline.columns["prediction"]
    seen = dict(zip(prediction.categories, prediction.cells, strict=False))
    answers = model.predict(table.gaps).tolist()
    assert seen == {str(label): answers.count(label) for label in {*answers}}
    assert baseline.columns["probability"].mean == pytest.approx(model.predict_proba(table.gaps).max(axis=1).mean())


def test_environment_is_captured_when_not_given(store: Store, table: Table) -> None:
    lock = save_bundle(store, classifier(table), rows=table.gaps).manifest.lock
    assert "scikit-learn" in lock.packages
    assert lock.python.startswith("3.")


def test_same_model_gives_the_same_bundle(store: Store, table: Table) -> None:
    before = [blob.digest for blob in store.blobs.kept()]
    first, second = (saved(store, classifier(table), table.gaps) for _ in range(2))
    assert first.digest == second.digest
    assert len([blob.digest for blob in store.blobs.kept()]) == len(before) + 3


def test_manifest_is_the_same_bytes_again(store: Store, table: Table) -> None:
    bundle = saved(store, classifier(table), table.gaps, facets={"b": 1, "a": {"d": 2, "c": [1.5]}})
    data = store.blobs.get(bundle.digest)
    assert encode_manifest(decode_manifest(data)) == data


def test_native_bundle_says_why_and_answers_exactly(store: Store, table: Table) -> None:
    model = Model(DummyRegressor().fit(table.numbers, table.amount), example=table.numbers)
    bundle = saved(store, model, table.numbers)
    (entry,) = bundle.manifest.formats
    assert entry.name == "skops"
    assert "onnx: skl2onnx cannot convert sklearn.dummy.DummyRegressor" in entry.reason
    np.testing.assert_array_equal(bundle.scorer().score(table.numbers).prediction, model.predict(table.numbers))


def test_format_that_is_not_there_is_named(store: Store, table: Table) -> None:
    with pytest.raises(NotFound, match="These exist: onnx, skops"):
        saved(store, classifier(table), table.gaps).scorer("pt2")


def damage(store: Store, digest: str) -> None:
    """Change one byte of a blob where it lies."""
    assert isinstance(store.blobs, FolderBlobs)
    (file,) = (each for each in store.home.rglob("*") if each.is_file() and digest[-12:] in each.name)
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_damaged_manifest_is_noticed(store: Store, table: Table) -> None:
    bundle = saved(store, classifier(table), table.gaps)
    damage(store, bundle.digest)
    with pytest.raises(CorruptBlob, match="no longer match"):
        load_bundle(store, bundle.digest)


def test_damaged_model_is_noticed(store: Store, table: Table) -> None:
    bundle = saved(store, classifier(table), table.gaps)
    damage(store, bundle.manifest.formats[0].digest)
    with pytest.raises(CorruptBlob, match="no longer match"):
        load_bundle(store, bundle.digest).scorer()


def test_missing_blob_is_noticed(store: Store, table: Table) -> None:
    bundle = saved(store, classifier(table), table.gaps)
    store.blobs.delete(bundle.manifest.formats[0].digest)
    with pytest.raises(MissingBlob):
        bundle.scorer()
    with pytest.raises(MissingBlob):
        load_bundle(store, "sha256:" + "0" * 64)


def replaced(store: Store, bundle: Bundle, **changes: Any) -> Bundle:
    """Store the bundle with parts of its manifest changed, digests right."""
    manifest = msgspec.structs.replace(bundle.manifest, **changes)
    return load_bundle(store, store.blobs.put(encode_manifest(manifest)))


def test_golden_samples_catch_another_model_under_a_right_digest(store: Store, table: Table) -> None:
    bundle = saved(store, classifier(table), table.gaps)
    other = Model(
        HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(table.gaps, table.three.reverse()),
        example=table.gaps,
    )
    encoded = encode_model(other, select(other.signature, table.gaps))[0]
    store.blobs.put(encoded.data)
    swapped = replaced(store, bundle, formats=[encoded.entry])
    with pytest.raises(ValidationFailed, match="golden samples differently"):
        swapped.verify()


def test_format_of_a_newer_version_is_named(store: Store, table: Table) -> None:
    bundle = saved(store, classifier(table), table.gaps)
    entry = msgspec.structs.replace(bundle.manifest.formats[0], name="torch")
    with pytest.raises(NotFound, match="'torch'"):
        replaced(store, bundle, formats=[entry]).scorer()
    with pytest.raises(InvalidInput, match="Upgrade tidewheel"):
        replaced(store, bundle, version=99)


def test_blob_that_is_no_manifest_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="not a bundle manifest"):
        load_bundle(store, store.blobs.put(b'{"version": 1}'))


class Nearest:
    """Not an estimator of scikit-learn."""

    def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        return rows["f0"].round().to_numpy()


def test_pickle_needs_trust_when_saved_and_when_loaded(store: Store, table: Table) -> None:
    model = Model(Nearest(), example=table.numbers, task="regression")
    with pytest.raises(UnsupportedFormat, match="can only be stored as a pickle"):
        saved(store, model, table.numbers)
    bundle = saved(store, model, table.numbers, trust=True)
    (entry,) = bundle.manifest.formats
    assert (entry.name, entry.trust) == ("pickle", True)
    with pytest.raises(UnsupportedFormat, match="runs code"):
        load_bundle(store, bundle.digest).scorer()
    scorer = load_bundle(store, bundle.digest, trust=True).scorer()
    np.testing.assert_array_equal(scorer.score(table.numbers).prediction, table.numbers["f0"].round().to_numpy())


def test_rows_the_model_cannot_score_are_refused(store: Store, table: Table) -> None:
    model = Model(LinearRegression().fit(table.numbers, table.amount), example=table.numbers)
    with pytest.raises(InvalidInput, match="NaN"):
        saved(store, model, table.gaps)
    with pytest.raises(InvalidInput, match="needs real rows"):
        saved(store, model, table.numbers.clear())
    with pytest.raises(NotFound, match="'f3'"):
        saved(store, model, table.numbers.drop("f3"))


def test_facets_that_json_cannot_hold_are_refused(store: Store, table: Table) -> None:
    with pytest.raises(InvalidInput, match="JSON"):
        saved(store, classifier(table), table.gaps, facets={"model": object()})


def test_feature_named_like_an_answer_is_refused(store: Store, table: Table) -> None:
    x = table.numbers.rename({"f0": "prediction"})
    model = Model(LinearRegression().fit(x, table.amount), example=x)
    with pytest.raises(InvalidInput, match="Rename that column"):
        saved(store, model, x)


def test_infinite_values_are_profiled_and_kept_out_of_the_golden_samples(store: Store, table: Table) -> None:
    x = table.numbers.with_columns(f0=pl.when(pl.col("flag")).then(float("inf")).otherwise(pl.col("f0")))
    fitted = HistGradientBoostingRegressor(max_iter=5).fit(x, table.amount)
    bundle = saved(store, Model(fitted, example=x), x)
    assert bundle.manifest.baseline.columns["f0"].infinities == table.numbers["flag"].sum()
    assert bundle.manifest.golden.rows
    assert all(abs(row[0]) < float("inf") for row in bundle.manifest.golden.rows)
    bundle.verify()


class Inverse:
    """Has no answer to zero."""

    def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        return (0.0 / rows["a"]).to_numpy()


def test_answers_that_are_no_numbers_are_kept_out_of_the_golden_samples(store: Store) -> None:
    x = pl.DataFrame({"a": [0.0, 1.0, 2.0, 0.0]})
    bundle = saved(store, Model(Inverse(), example=x, task="regression"), x, trust=True)
    assert bundle.manifest.golden.rows == [[1.0], [2.0]]
    assert bundle.manifest.baseline.columns["prediction"].nans == 2
    bundle.verify()


def test_rows_of_pandas_are_taken(store: Store, table: Table) -> None:
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(table.numbers.to_pandas(), table.two)
    model = Model(fitted, example=table.numbers.to_pandas())
    assert saved(store, model, table.numbers.to_pandas()).manifest.formats[0].name == "onnx"
