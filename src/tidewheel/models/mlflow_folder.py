"""MLflow model directories, read and written without MLflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tidewheel.errors import InvalidInput, MissingExtra, NotFound, UnsupportedFormat
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.models.booster_format import BoosterScorer
from tidewheel.models.boosters import dump_booster, is_raw, library_of, load_booster
from tidewheel.models.bundle import Bundle
from tidewheel.models.estimator import class_path
from tidewheel.models.frames import to_polars
from tidewheel.models.model import Model
from tidewheel.models.networks import is_network
from tidewheel.models.onnx_graphs import network_graph
from tidewheel.models.onnx_model import OnnxModel
from tidewheel.models.pickle_format import load_object
from tidewheel.models.pt2_format import load_network
from tidewheel.models.signature import Label, Signature, Task, from_rows, select
from tidewheel.models.skops_format import dump_estimator, load_estimator, untrusted_types

MLMODEL, EXAMPLE, SERVING_EXAMPLE = "MLmodel", "input_example.json", "serving_input_example.json"
_TYPES = {"float": "double", "int": "long", "bool": "boolean", "string": "string", "datetime": "datetime"}
_NATIVE = ("skops", "lightgbm", "xgboost", "pt2")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A model file with what MLflow's loader wants to know of it."""

    flavour: str  # MLflow's name: sklearn, lightgbm, xgboost, onnx
    file: str  # name of the file
    data: bytes  # its content
    facts: dict[str, Any]  # MLflow's entry for the flavour
    packages: tuple[str, ...]  # distributions that load it


def write_mlflow(model: Model | Bundle, folder: str | Path, *, example: Any = None) -> Path:
    """Write a model as an MLflow model directory, without a pickle, and return the folder.

    scikit-learn models go as skops, boosters as their libraries' files, networks as ONNX
    that answers with the label or number. `example` are rows for
    input_example.json; a bundle brings its own.

    Raises InvalidInput for a folder that is not empty, UnsupportedFormat for models that only a pickle holds,
    MissingExtra without PyYAML.
    """
    yaml = _yaml()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if any(place.iterdir()):
        raise InvalidInput(f"{place} is not empty.", "Name a new folder: nothing is overwritten.")
    if isinstance(model, Bundle):
        example = from_rows(model.manifest.signature, model.manifest.golden.rows) if example is None else example
        model = _native(model)
    part = _part(model)
    (place / part.file).write_bytes(part.data)
    environment = capture_environment()
    packages = [f"{name}=={environment.packages[name]}" for name in part.packages if name in environment.packages]
    content: dict[str, Any] = {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": f"mlflow.{part.flavour}",
                "python_version": environment.python,
                **({"model_path": part.file, "predict_fn": "predict"} if part.flavour == "sklearn" else {}),
                **({} if part.flavour == "sklearn" else {"data": part.file}),
            },
            part.flavour: part.facts,
        },
        "signature": _signature(model.signature),
        "model_size_bytes": len(part.data),
    }
    if example is not None:
        content["saved_input_example_info"] = _write_example(model.signature, example, place)
    _write_environment(place, environment.python, packages)
    (place / MLMODEL).write_text(yaml.safe_dump(content, sort_keys=True, allow_unicode=True), "utf-8")
    return place


def read_mlflow(
    folder: str | Path,
    *,
    example: Any = None,
    task: Task | None = None,
    classes: list[Label] | None = None,
    target: str = "",
    trust: bool = False,
) -> Model:
    """Read an MLflow model directory of scikit-learn, LightGBM, XGBoost, PyTorch (.pt2) or ONNX.

    `example`, `task`, `classes` and `target` are as in `Model`; the example is that of the directory if it has one.
    `trust=True` lets a pickle be loaded, which runs its maker's code.

    Raises NotFound for a folder without MLmodel, UnsupportedFormat for another flavour or a pickle without trust,
    InvalidInput when there is no example.
    """
    place = Path(folder)
    if not (place / MLMODEL).is_file():
        raise NotFound("MLmodel file", str(place / MLMODEL), mend="Name the folder that mlflow's save_model wrote.")
    content = _yaml().safe_load((place / MLMODEL).read_text("utf-8"))
    flavours = dict(content.get("flavors", {}))
    readers: dict[str, Callable[[Path, dict[str, Any], bool], Any]] = {
        "sklearn": _read_pickled,
        "lightgbm": _read_lightgbm,
        "xgboost": _read_xgboost,
        "pytorch": _read_pytorch,
        "onnx": _read_onnx,
    }
    for name, reader in readers.items():
        if name in flavours:
            estimator = reader(place, flavours[name], trust)
            rows = _example_of(place, content, example)
            return Model(estimator, example=rows, task=task, classes=classes, target=target, trust=trust)
    raise UnsupportedFormat(
        f"{place} holds the flavours {', '.join(flavours) or 'none'}, which only MLflow itself can load.",
        f"Save it with one of {', '.join(readers)}.",
    )


def _native(bundle: Bundle) -> Model:
    signature, adapter = bundle.manifest.signature, bundle.manifest.adapter
    stored = [entry.name for entry in bundle.manifest.formats]
    name = next((each for each in stored if each in _NATIVE), None)
    if name is not None:
        scorer: Any = bundle.scorer(name)
        estimator = scorer.booster if isinstance(scorer, BoosterScorer) else scorer.estimator
    elif "onnx" in stored:
        entry = bundle.manifest.formats[stored.index("onnx")]
        estimator = OnnxModel(bundle.blobs.get(entry.digest), signature.classes)
    else:
        raise UnsupportedFormat("The bundle holds a pickle alone, which is not handed on.", "Save it in another form.")
    return Model.restored(estimator, signature=signature, adapter=adapter)


def _part(model: Model) -> _Part:
    estimator, library = model.estimator, library_of(model.estimator)
    versions = capture_environment().packages
    if is_network(estimator) or isinstance(estimator, OnnxModel):
        data = _only_prediction(estimator.data if isinstance(estimator, OnnxModel) else network_graph(model))
        facts = {"data": "model.onnx", "onnx_version": versions.get("onnx", ""), "providers": ["CPUExecutionProvider"]}
        return _Part(flavour="onnx", file="model.onnx", data=data, facts=facts, packages=("onnx", "onnxruntime"))
    if library == "xgboost":
        facts = {"data": "model.ubj", "model_class": class_path(estimator), "model_format": "ubj"}
        facts["xgb_version"] = versions.get("xgboost", versions.get("xgboost-cpu", ""))
        data = dump_booster(estimator) if is_raw(estimator) else bytes(estimator.get_booster().save_raw("ubj"))
        packages = ("xgboost", "xgboost-cpu", "scikit-learn")
        return _Part(flavour="xgboost", file="model.ubj", data=data, facts=facts, packages=packages)
    if library == "lightgbm" and is_raw(estimator):
        facts = {"data": "model.lgb", "model_class": class_path(estimator), "lgb_version": versions.get("lightgbm", "")}
        data = dump_booster(estimator)
        return _Part(flavour="lightgbm", file="model.lgb", data=data, facts=facts, packages=("lightgbm",))
    data = dump_estimator(estimator)
    trusted = {"serialization_format": "skops", "skops_trusted_types": untrusted_types(data)}
    if library == "lightgbm":
        facts = {
            "data": "model.skops",
            "model_class": class_path(estimator),
            "lgb_version": versions.get("lightgbm", ""),
        }
        packages = ("lightgbm", "scikit-learn", "skops")
        return _Part(flavour="lightgbm", file="model.skops", data=data, facts=facts | trusted, packages=packages)
    facts = {"pickled_model": "model.skops", "sklearn_version": versions.get("scikit-learn", "")}
    return _Part(
        flavour="sklearn", file="model.skops", data=data, facts=facts | trusted, packages=("scikit-learn", "skops")
    )


def _only_prediction(data: bytes) -> bytes:
    """Keep the first output alone: MLflow makes a frame of the outputs and fails on a matrix of probabilities."""
    import onnx

    graph = onnx.load_from_string(data)
    del graph.graph.output[1:]
    kept: bytes = graph.SerializeToString(deterministic=True)
    return kept


def _signature(signature: Signature) -> dict[str, Any]:
    inputs = [
        {"type": _TYPES[field.kind], "name": field.name, "required": not field.nullable} for field in signature.fields
    ]
    kind = "float64"
    if signature.classes is not None:
        kind = {"str": "str", "bool": "bool", "float": "float64"}.get(type(signature.classes[0]).__name__, "int64")
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": kind, "shape": [-1]}}]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None}


def _write_example(signature: Signature, example: Any, place: Path) -> dict[str, Any]:
    frame = select(signature, example).head(8)
    rows = [
        [value if value is None or isinstance(value, int | float | str) else str(value) for value in row]
        for row in frame.fill_nan(None).iter_rows()
    ]
    split = {"columns": signature.names, "data": rows}
    (place / EXAMPLE).write_text(json.dumps(split), "utf-8")
    (place / SERVING_EXAMPLE).write_text(json.dumps({"dataframe_split": split}), "utf-8")
    return {
        "artifact_path": EXAMPLE,
        "pandas_orient": "split",
        "serving_input_path": SERVING_EXAMPLE,
        "type": "dataframe",
    }


def _write_environment(place: Path, python: str, packages: list[str]) -> None:
    yaml = _yaml()
    needed = ["mlflow", *packages]
    (place / "requirements.txt").write_text("".join(f"{line}\n" for line in needed), "utf-8")
    wanted: list[Any] = [f"python={python}", "pip", {"pip": needed}]
    conda = {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": wanted}
    (place / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), "utf-8")
    env = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (place / "python_env.yaml").write_text(yaml.safe_dump(env, sort_keys=False), "utf-8")


def _read_pickled(place: Path, facts: dict[str, Any], trust: bool) -> Any:  # noqa: FBT001 - one face for all readers
    file = place / str(facts.get("pickled_model") or facts.get("data") or facts.get("model_path"))
    data = file.read_bytes()
    if facts.get("serialization_format") == "skops" or file.suffix == ".skops":
        return load_estimator(data)
    if not trust:
        raise UnsupportedFormat(
            f"{file.name} is a pickle, which runs code when it is loaded.",
            'Say read_mlflow(..., trust=True) if you trust its maker, or save it with serialization_format="skops".',
        )
    return load_object(data)


def _read_lightgbm(place: Path, facts: dict[str, Any], trust: bool) -> Any:  # noqa: FBT001 - one face for all readers
    file = place / str(facts["data"])
    if file.suffix == ".lgb":
        return load_booster("lightgbm", file.read_bytes())
    return _read_pickled(place, facts, trust)


def _read_xgboost(place: Path, facts: dict[str, Any], trust: bool) -> Any:  # noqa: FBT001 - one face for all readers
    del trust
    data = (place / str(facts["data"])).read_bytes()
    booster = load_booster("xgboost", data)
    name = str(facts.get("model_class", "")).rpartition(".")[2]
    if not name.startswith("XGB"):
        return booster
    import xgboost

    face = getattr(xgboost, name)()
    face.load_model(bytearray(data))
    return face


def _read_pytorch(place: Path, facts: dict[str, Any], trust: bool) -> Any:  # noqa: FBT001 - one face for all readers
    file = place / str(facts.get("model_data", "data")) / "model.pt2"
    if file.is_file():
        return load_network(file.read_bytes())
    del trust
    raise UnsupportedFormat(
        f"{place} holds a pickled network.", 'Save it with mlflow.pytorch.save_model(..., serialization_format="pt2").'
    )


def _read_onnx(place: Path, facts: dict[str, Any], trust: bool) -> Any:  # noqa: FBT001 - one face for all readers
    del trust
    return OnnxModel((place / str(facts["data"])).read_bytes())


def _example_of(place: Path, content: dict[str, Any], example: Any) -> Any:
    if example is not None:
        return example
    about = content.get("saved_input_example_info") or {}
    file = place / str(about.get("artifact_path", EXAMPLE))
    if not file.is_file() or about.get("pandas_orient", "split") != "split":
        raise InvalidInput(f"{place} has no example of rows.", "Give one: read_mlflow(folder, example=rows).")
    split = json.loads(file.read_text("utf-8"))
    columns = split.get("columns") or [f"x{place}" for place in range(len(split["data"][0]))]
    kinds = _kinds(content)
    table = dict(zip(columns, zip(*split["data"], strict=True), strict=True))
    types = {"double": pl.Float64, "float": pl.Float64, "long": pl.Int64, "integer": pl.Int64}
    series = [
        pl.Series(str(name), values, types.get(kinds.get(str(name), "")), strict=False)
        for name, values in table.items()
    ]
    return to_polars(pl.DataFrame(series))


def _kinds(content: dict[str, Any]) -> dict[str, str]:
    inputs = json.loads((content.get("signature") or {}).get("inputs") or "[]")
    return {str(each["name"]): str(each["type"]) for each in inputs if "name" in each}


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "mlflow") from error
    return yaml
