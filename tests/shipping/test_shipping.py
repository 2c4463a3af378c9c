"""Every way to ship a model answers what the store's own scorer answers, and is the same bytes again."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tidewheel.errors import CorruptBlob, InvalidInput, NotFound, StorageUnavailable, UnsupportedFormat
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.versions import get_model, list_versions
from tidewheel.shipping.containers import deployment, dockerfile, inference_service
from tidewheel.shipping.image import build_image, read_base
from tidewheel.shipping.payload import import_folder, payload_of, write_folder
from tidewheel.shipping.push import push_image
from tidewheel.shipping.serverless import function_zip
from tidewheel.shipping.standalone import Refused, Standalone
from tidewheel.shipping.ways import WAYS, ship
from tidewheel.shipping.wheel import wheel

ONNX = ["trees", "colors", "line"]


def wanted(yard: Any, name: str, rows: list[dict[str, Any]]) -> Any:
    bundle = load_bundle(yard.store, get_model(yard.store, name).bundle_digest)
    return bundle.scorer().score_rows([tuple(row.values()) for row in rows])


@pytest.mark.parametrize("name", ONNX)
def test_the_standalone_scorer_answers_like_the_store(yard: Any, name: str, tmp_path: Path) -> None:
    rows = yard.rows[name].head(60).to_dicts()
    found = Standalone(write_folder(payload_of(yard.store, name), tmp_path / "model"))
    assert found.verify() == 8
    answer, scores = found.predict(rows), wanted(yard, name, rows)
    if name == "line":
        np.testing.assert_allclose(answer["predictions"], scores.prediction, rtol=1e-6)
    else:
        assert answer["predictions"] == scores.prediction.tolist()
        np.testing.assert_allclose(answer["probabilities"], scores.probabilities, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"a": "much"}, r"rows\[1\]\.a = 'much' is not of type float"),
        ({"a": None}, r"rows\[1\]\.a is missing a value"),
        ({"n": True}, r"rows\[1\]\.n = True is not of type int"),
        ({"z": 1}, r"rows\[1\]\.z is no column"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_place(
    yard: Any, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    found = Standalone(write_folder(payload_of(yard.store, "trees"), tmp_path / "model"))
    good = yard.rows["trees"].row(0, named=True)
    with pytest.raises(Refused, match=said):
        found.predict([good, good | change])
    with pytest.raises(Refused, match=r"rows\[0\]\.b is missing"):
        found.predict([{"a": 1.0, "n": 1}])


def test_an_altered_file_is_refused_everywhere(yard: Any, tmp_path: Path) -> None:
    folder = write_folder(payload_of(yard.store, "trees"), tmp_path / "model")
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(Refused, match="was altered"):
        Standalone(folder)
    before = len(list_versions(yard.store, "trees"))
    with pytest.raises(CorruptBlob, match=r"model\.onnx"):
        import_folder(yard.store, folder, name="other")
    assert len(list_versions(yard.store, "trees")) == before


def test_a_folder_becomes_the_same_version_elsewhere_and_once(yard: Any, store: Any, tmp_path: Path) -> None:
    folder = write_folder(payload_of(yard.store, "colors"), tmp_path / "model")
    first = import_folder(store, folder, promoted=True)
    again = import_folder(store, folder, promoted=True)
    assert (first.seq, again.seq) == (1, 1)
    assert first.bundle_digest == get_model(yard.store, "colors").bundle_digest
    assert get_model(store, "colors@champion").seq == 1
    with pytest.raises(NotFound, match="shipped model"):
        import_folder(store, tmp_path)


@pytest.mark.parametrize("way", ["wheel", "function", "page"])
def test_what_needs_onnx_says_so(yard: Any, way: str, out: Path) -> None:
    with pytest.raises(UnsupportedFormat, match=r"stored as pickle.*\n.*folder or an image"):
        ship(yard.store, "hours", way, out)


def test_unknown_ways_and_full_folders_are_refused(yard: Any, out: Path) -> None:
    with pytest.raises(NotFound, match="wheel"):
        ship(yard.store, "trees", "wheell", out)
    out.mkdir()
    (out / "mine").touch()
    for way in ("folder", "image", "page"):
        with pytest.raises(InvalidInput, match="not empty"):
            ship(yard.store, "trees", way, out)
    with pytest.raises(InvalidInput, match="--image"):
        ship(yard.store, "trees", "kserve", out)
    assert set(WAYS) >= {"folder", "wheel", "function", "page", "dockerfile", "image", "kubernetes", "kserve"}


def test_a_wheel_installs_and_scores_without_tidewheel(yard: Any, tmp_path: Path) -> None:
    name, data = wheel(payload_of(yard.store, "trees"))
    assert data == wheel(payload_of(yard.store, "trees"))[1]
    (tmp_path / name).write_bytes(data)
    place = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place)]
    if importlib.util.find_spec("pip") is None:
        command = ["uv", "pip", "install", "--quiet", "--no-deps", "--offline", "--target", str(place)]
    subprocess.run([*command, str(tmp_path / name)], check=True)
    rows = yard.rows["trees"].head(5).to_dicts()
    code = (
        "import json, sys, trees_model\n"
        "print(json.dumps(trees_model.predict(json.load(sys.stdin))))\n"
        "assert not [name for name in sys.modules if name.startswith('tidewheel')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(rows),
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["predictions"] == wanted(yard, "trees", rows).prediction.tolist()


def test_the_record_of_a_wheel_names_every_file_by_its_digest(yard: Any) -> None:
    _, data = wheel(payload_of(yard.store, "trees"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        record = next(name for name in archive.namelist() if name.endswith("RECORD"))
        lines = [line.split(",") for line in archive.read(record).decode().splitlines()]
        assert {line[0] for line in lines} == set(archive.namelist())
        for name, digest, size in lines:
            if name != record:
                assert int(size) == len(archive.read(name))
                assert digest.startswith("sha256=")
        metadata = archive.read(record.replace("RECORD", "METADATA")).decode()
    assert "Requires-Dist: onnxruntime>=" in metadata
    assert "tidewheel==" not in metadata


def test_a_function_answers_events_and_http_events(yard: Any, tmp_path: Path) -> None:
    data = function_zip(payload_of(yard.store, "colors"))
    assert data == function_zip(payload_of(yard.store, "colors"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(tmp_path)
    rows = yard.rows["colors"].head(3).to_dicts()
    code = (
        "import json, handler\n"
        f"rows = {rows!r}\n"
        "print(json.dumps([handler.handler({'rows': rows}), handler.handler({'body': json.dumps({'rows': rows})}),"
        " handler.handler({'body': '{'}), handler.handler({'body': json.dumps({'rows': [{}]})})]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    plain, http, torn, odd = json.loads(done.stdout)
    assert plain["predictions"] == wanted(yard, "colors", rows).prediction.tolist()
    assert (http["statusCode"], json.loads(http["body"])["predictions"]) == (200, plain["predictions"])
    assert torn["statusCode"] == odd["statusCode"] == 422


def test_an_image_is_the_same_bytes_again_and_stands_on_its_base(yard: Any, tmp_path: Path) -> None:
    payload = payload_of(yard.store, "trees")
    base = build_image(payload_of(yard.store, "line"), tmp_path / "base")
    packages = tmp_path / "packages"
    (packages / "tool").mkdir(parents=True)
    (packages / "tool" / "__init__.py").write_text("x = 1\n")
    first = build_image(payload, tmp_path / "one", base=base.folder, packages=packages)
    os.utime(packages / "tool" / "__init__.py", (0, 0))
    again = build_image(payload, tmp_path / "two", base=base.folder, packages=packages)
    assert first.digest == again.digest
    assert build_image(payload, tmp_path / "three", packages=packages).digest != first.digest
    found = read_base(first.folder)
    assert [layer.digest for layer in found.layers[:1]] == [layer.digest for layer in base.layers]
    assert len(found.layers) == 3 == len(found.config["rootfs"]["diff_ids"]) == len(found.config["history"])
    model = (first.folder / "blobs" / "sha256" / found.layers[-1].digest.removeprefix("sha256:")).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(model)) as tar:
        files = {entry.name for entry in tar if entry.isfile()}
        assert all(entry.mtime == 0 and entry.uid == 0 for entry in tar)
    assert files == {f"model/{name}" for name in payload.files}
    assert found.config["config"]["Cmd"][:2] == ["tidewheel", "serve"]


def test_an_altered_base_is_refused(yard: Any, tmp_path: Path) -> None:
    base = build_image(payload_of(yard.store, "line"), tmp_path / "base")
    blob = base.folder / "blobs" / "sha256" / base.layers[0].digest.removeprefix("sha256:")
    blob.write_bytes(blob.read_bytes() + b"x")
    with pytest.raises(CorruptBlob):
        build_image(payload_of(yard.store, "trees"), tmp_path / "one", base=base.folder)
    with pytest.raises(InvalidInput, match="skopeo"):
        build_image(payload_of(yard.store, "trees"), tmp_path / "two", base=tmp_path)


@pytest.fixture
def depot(tmp_path: Path) -> Iterator[str]:
    """A real registry on a free port."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        pytest.skip("no registry program is there; install it: apt-get install docker-registry")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    with subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
        process.kill()


@pytest.mark.services
def test_an_image_is_pushed_to_a_registry_and_comes_back_byte_for_byte(yard: Any, depot: str, tmp_path: Path) -> None:
    image = build_image(payload_of(yard.store, "trees"), tmp_path / "image")
    pushed = push_image(image.folder, f"http://{depot}/models/trees:1")
    assert (pushed.sent, pushed.known) == (2, 0)
    again = push_image(image.folder, f"http://{depot}/models/trees:2")
    assert (again.sent, again.known) == (0, 2)
    assert pushed.reference.endswith(image.digest)
    request = urllib.request.Request(
        f"http://{depot}/v2/models/trees/manifests/1",
        headers={"accept": "application/vnd.oci.image.manifest.v1+json"},
    )
    with urllib.request.urlopen(request) as answer:
        manifest = answer.read()
    assert f"sha256:{hashlib.sha256(manifest).hexdigest()}" == image.digest
    layer = json.loads(manifest)["layers"][0]
    with urllib.request.urlopen(f"http://{depot}/v2/models/trees/blobs/{layer['digest']}") as answer:
        assert f"sha256:{hashlib.sha256(answer.read()).hexdigest()}" == layer["digest"]


def test_a_push_that_cannot_be_says_why(yard: Any, tmp_path: Path) -> None:
    image = build_image(payload_of(yard.store, "trees"), tmp_path / "image")
    with pytest.raises(InvalidInput, match="not an image reference"):
        push_image(image.folder, "Not A Name")
    with pytest.raises(StorageUnavailable, match="does not answer"):
        push_image(image.folder, "http://127.0.0.1:9/models/trees:1")


def test_manifests_start_the_image_and_name_the_bundle(yard: Any) -> None:
    payload = payload_of(yard.store, "trees")
    workload, service = deployment(payload, "registry.test/trees:1", replicas=2)["items"]
    container = workload["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "registry.test/trees:1"
    assert workload["spec"]["selector"]["matchLabels"] == service["spec"]["selector"]
    assert workload["spec"]["selector"]["matchLabels"] == workload["spec"]["template"]["metadata"]["labels"]
    predictor = inference_service(payload, "registry.test/trees:1")
    assert predictor["spec"]["predictor"]["containers"][0]["name"] == "kserve-container"
    assert predictor["metadata"]["annotations"]["tidewheel.dev/bundle"] == payload.digest
    with pytest.raises(InvalidInput, match="serve nothing"):
        deployment(payload, "x", replicas=0)
    text = dockerfile(payload)
    assert "COPY model /model" in text
    assert f"onnxruntime=={payload.manifest.lock.packages['onnxruntime']}" in text


@pytest.mark.parametrize("name", ["trees", "line"])
def test_a_small_model_ships_as_source(yard: Any, name: str, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(Path(ship(yard.store, name, "python", tmp_path).place).read_text("utf-8"), names)
    rows = yard.rows[name].head(40).to_dicts()
    found = [names["predict"](tuple(row.values())) for row in rows]
    np.testing.assert_allclose(found, wanted(yard, name, rows).prediction, rtol=1e-5)
    assert "int model_predict(" in Path(ship(yard.store, name, "c", tmp_path).place).read_text("utf-8")
