"""PyTorch networks: outputs inferred or declared, ONNX and .pt2 that answer alike, no pickles."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_diabetes, load_digits

from tidewheel.errors import InvalidInput, UnsupportedFormat
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.models.packing import pack, unpack
from tidewheel.models.pt2_format import load_network
from tidewheel.models.weights import read_weights, write_weights

torch = pytest.importorskip("torch", reason="PyTorch is absent; install it with: pip install torch==2.13.0")
nn = torch.nn


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any]:
    """1,797 real images of digits as tensors [n, 1, 8, 8]."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)


@pytest.fixture(scope="module")
def reader(digits: tuple[Any, Any]) -> Any:
    """A small convolution that reads digits, fitted for a second."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(288, 10)
    )
    best = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(25):
        best.zero_grad()
        nn.functional.cross_entropy(net(digits[0]), digits[1]).backward()
        best.step()
    return net.eval()


def test_images_become_onnx_and_an_exported_program(reader: Any, digits: tuple[Any, Any], store: Store) -> None:
    x, y = digits
    model = Model(reader, example=x[:16])
    assert (model.signature.task, model.signature.classes) == ("multiclass", list(range(10)))
    assert (model.adapter.shape, model.adapter.dtype, model.adapter.output) == ([1, 8, 8], "float32", "logits")
    with torch.no_grad():
        expected = torch.softmax(reader(x), dim=1).numpy()
    assert (model.predict(x) == y.numpy()).mean() > 0.9
    bundle = save_bundle(store, model, rows=x)
    assert [entry.name for entry in bundle.manifest.formats] == ["onnx", "pt2"]
    flat = x.reshape(len(x), -1).numpy()
    for entry in bundle.manifest.formats:
        assert (entry.parity.passed, entry.parity.rows, entry.trust) == (True, 1_797, False)
        scores = load_bundle(store, bundle.digest).scorer(entry.name).score(flat)
        assert scores.probabilities is not None
        np.testing.assert_allclose(scores.probabilities, expected, atol=1e-5)
        one = bundle.scorer(entry.name).score_rows([flat[5].tolist()])
        assert one.prediction[0] == expected[5].argmax()


@pytest.mark.parametrize(
    ("last", "wish", "task", "output"),
    [
        (nn.Linear(10, 1), {}, "regression", "numbers"),
        (nn.Sequential(nn.Linear(10, 1), nn.Flatten(0)), {}, "regression", "numbers"),
        (nn.Linear(10, 1), {"task": "binary"}, "binary", "logits"),
        (nn.Sequential(nn.Linear(10, 1), nn.Sigmoid()), {"classes": ["no", "yes"]}, "binary", "probabilities"),
        (nn.Sequential(nn.Linear(10, 3), nn.LogSoftmax(dim=1)), {}, "multiclass", "log_probabilities"),
        (
            nn.Sequential(nn.Linear(10, 3), nn.Softmax(dim=1)),
            {"classes": ["a", "b", "c"]},
            "multiclass",
            "probabilities",
        ),
        (nn.Linear(10, 2), {"outputs": "logits", "classes": [False, True]}, "binary", "logits"),
    ],
    ids=["number", "flat number", "logit", "sigmoid", "log softmax", "softmax", "declared"],
)
def test_outputs_are_read_as_they_are_meant_in_every_form(
    last: Any, wish: dict[str, Any], task: str, output: str, store: Store
) -> None:
    x = load_diabetes().data
    model = Model(last.eval(), example=x, **wish)
    assert (model.signature.task, model.adapter.output) == (task, output)
    expected = model.score(x)
    bundle = save_bundle(store, model, rows=x)
    assert [entry.name for entry in bundle.manifest.formats] == ["onnx", "pt2"], bundle.manifest.formats[0].reason
    for entry in bundle.manifest.formats:
        scores = bundle.scorer(entry.name).score(x)
        if task == "regression":
            np.testing.assert_allclose(scores.prediction, expected.prediction, atol=1e-5)
        else:
            assert scores.prediction.tolist() == expected.prediction.tolist()
            assert scores.probabilities is not None
            assert expected.probabilities is not None
            np.testing.assert_allclose(scores.probabilities, expected.probabilities, atol=1e-5)


def test_whole_numbers_reach_an_embedding(store: Store) -> None:
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 1)).eval()
    words = np.random.default_rng(0).integers(0, 7, (40, 3))
    model = Model(net, example=words)
    assert [field.kind for field in model.signature.fields] == ["int"] * 3
    bundle = save_bundle(store, model, rows=words)
    for entry in bundle.manifest.formats:
        np.testing.assert_allclose(bundle.scorer(entry.name).score(words).prediction, model.predict(words), rtol=1e-5)
    with pytest.raises(InvalidInput, match="missing"):
        model.score_rows([[1, None, 2]])


Module: Any = nn.Module


class Picky(Module):  # type: ignore[misc] # torch is unknown to mypy
    """Looks at its values with Python's if, which no exporter can follow."""

    def forward(self, rows: Any) -> Any:
        return rows.sum(dim=1) if float(rows.sum()) > 0 else rows[:, 0]


def test_a_network_that_cannot_be_traced_needs_consent_to_a_pickle(store: Store) -> None:
    x = np.abs(load_diabetes().data)
    with pytest.raises(UnsupportedFormat, match=r"torch\.export cannot hold"):
        save_bundle(store, Model(Picky().eval(), example=x), rows=x)
    bundle = save_bundle(store, Model(Picky().eval(), example=x, trust=True), rows=x)
    entry = bundle.manifest.formats[0]
    assert (entry.name, entry.trust) == ("pickle", True)
    assert "torch.onnx cannot convert" in entry.reason


def test_between_steps_a_network_needs_no_consent(reader: Any, digits: tuple[Any, Any]) -> None:
    model = Model(reader, example=digits[0][:4])
    again = unpack(pack(model))
    np.testing.assert_allclose(again.predict_proba(digits[0]), model.predict_proba(digits[0]), atol=1e-6)
    assert pack(model) == pack(Model(reader, example=digits[0][:4]))


def test_training_mode_and_wrong_examples_are_refused(reader: Any, digits: tuple[Any, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"eval\(\)"):
        Model(nn.Linear(2, 1), example=np.zeros((3, 2)))
    with pytest.raises(InvalidInput, match=r"cannot score rows of shape \(3, 5\)"):
        Model(nn.Linear(2, 1).eval(), example=np.zeros((3, 5)))
    with pytest.raises(InvalidInput, match="these columns hold others: sky"):
        Model(nn.Linear(1, 1).eval(), example=pl.DataFrame({"sky": ["clear"]}))
    with pytest.raises(InvalidInput, match="no probabilities of 3 classes"):
        Model(reader, example=digits[0][:4], classes=["a", "b", "c"])


def test_an_exported_program_with_a_pickle_inside_is_never_loaded(reader: Any, digits: tuple[Any, Any]) -> None:
    from tidewheel.models.pt2_format import dump_network

    data = dump_network(Model(reader, example=digits[0][:4]))
    for name, text in (
        ("archive/data/constants/model_constants_config.json", '{"x": {"path_name": "t", "use_pickle": true}}'),
        ("archive/data/constants/opaque_obj_0", "x"),
        ("archive/data/aotinductor/model/x.so", "x"),
    ):
        with pytest.raises(UnsupportedFormat, match="may run code"):
            load_network(with_file(data, name, text))


def with_file(data: bytes, name: str, text: str) -> bytes:
    """Return an archive with one more file, or another one in its place."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in set(old.namelist()) - {name}:
            new.writestr(entry, old.read(entry))
        new.writestr(name, text)
    return out.getvalue()


def test_quantised_weights_are_served_when_decisions_agree(reader: Any, digits: tuple[Any, Any], store: Store) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    best = torch.optim.Adam(net.parameters(), lr=0.01)
    x = digits[0].reshape(-1, 64)
    for _ in range(25):
        best.zero_grad()
        nn.functional.cross_entropy(net(x), digits[1]).backward()
        best.step()
    model = Model(net.eval(), example=x[:8])
    bundle = save_bundle(store, model, rows=x, quantise=0.97)
    loss = bundle.manifest.quantisation
    assert loss is not None
    assert (loss.served, loss.wanted, loss.rows) == (True, 0.97, 1_797)
    assert 0.97 <= loss.agreement <= 1
    assert 0 < loss.mean < loss.largest
    assert loss.size < 0.5 * loss.of
    opened = load_bundle(store, bundle.digest).open()
    assert opened.form == "onnx-int8"
    agreed = np.mean(opened.scorer.score(x.numpy()).prediction == model.predict(x))
    assert agreed == pytest.approx(loss.agreement)
    refused = save_bundle(store, model, rows=x, quantise=0.999999)
    assert refused.manifest.quantisation is not None
    if not refused.manifest.quantisation.served:
        assert "were asked for" in refused.manifest.quantisation.reason
        assert refused.open().form == "onnx"


def test_trees_have_nothing_to_quantise(store: Store) -> None:
    from sklearn.tree import DecisionTreeRegressor

    data = load_diabetes()
    bundle = save_bundle(
        store,
        Model(DecisionTreeRegressor(max_depth=3).fit(data.data, data.target), example=data.data),
        rows=data.data,
        quantise=True,
    )
    loss = bundle.manifest.quantisation
    assert loss is not None
    assert not loss.served
    assert "nothing to quantise" in loss.reason
    assert bundle.open().form == "onnx"


def test_weights_travel_as_safetensors(reader: Any, tmp_path: Any) -> None:
    place = write_weights(reader, tmp_path / "reader.safetensors")
    torch.manual_seed(5)
    other = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(288, 10)
    )
    read_weights(other, place)
    for name, tensor in reader.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    with pytest.raises(InvalidInput, match="do not fit"):
        read_weights(nn.Linear(2, 1), place)
    (tmp_path / "broken").write_bytes(b"no weights")
    with pytest.raises(UnsupportedFormat, match="no safetensors"):
        read_weights(other, tmp_path / "broken")
