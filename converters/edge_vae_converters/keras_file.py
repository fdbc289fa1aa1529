"""Somebody's `.keras` file to a Keras model, or one line that says what keeps it from loading.

Such a file names classes and holds their settings and weights; the code of classes that are not Keras's own lies
elsewhere, and a `Lambda` layer carries code of its own. Neither is run unless the user says so.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_vae.errors import ModelError

__all__ = ["SUFFIX", "load", "said"]

SUFFIX = ".keras"

_CONFIG, _METADATA = "config.json", "metadata.json"
_MODULE = "brought_code"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN = 300
"""Characters of an error of Keras that are shown: the rest is a listing of the model."""


def load(path: Path, *, module: Path | None = None, unsafe_lambda: bool = False) -> Any:
    """The Keras model in a file.

    Args:
        path: A `.keras` file.
        module: Python code that defines the layers and functions that are not Keras's; it is run.
        unsafe_lambda: Whether the code that `Lambda` layers carry in the file is run.

    Raises:
        ModelError: The file is not one, or needs code that is not given, or does not load.
    """
    import keras

    config, version = _read(path)
    code = {} if module is None else _definitions(_imported(module))
    _expect_code(path, config, known=set(code), module=module)
    if not unsafe_lambda:
        _expect_no_lambda(path, config)
    try:
        return keras.models.load_model(path, custom_objects=code, compile=False, safe_mode=not unsafe_lambda)
    except Exception as error:  # Keras answers with exceptions of many types, and runs code of the file's author
        what = f"{path}: Keras {keras.__version__} cannot load the model"
        raise ModelError(
            what,
            expected="a model that keras.models.load_model takes",
            received=f"one of Keras {version}: {said(error)}",
            action="Load it where it was made and save it again with model.save('NAME.keras').",
        ) from error


def _read(path: Path) -> tuple[Any, str]:
    """The configuration in the file, and the version of Keras that wrote it."""
    expected, remedy = "a .keras file", "Save the model with model.save('NAME.keras')."
    if path.suffix == ".tflite":
        what, action = f"{path}: another format", "Make its bundle with edge-vae pack."
        raise ModelError(what, expected=expected, received="a TFLite model", action=action)
    if path.is_dir() or path.suffix in (".h5", ".hdf5"):
        what = f"{path}: another format"
        raise ModelError(what, expected=expected, received=_format(path), action=remedy)
    try:
        with zipfile.ZipFile(path) as archive:
            metadata = json.loads(archive.read(_METADATA))
            return json.loads(archive.read(_CONFIG)), str(metadata.get("keras_version", "unknown"))
    except OSError as error:
        received = error.strerror or str(error)
        what = f"{path}: cannot be read"
        raise ModelError(what, expected=expected, received=received) from error
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        what = f"{path}: not a model"
        raise ModelError(what, expected=expected, received=str(error), action=remedy) from error


def _format(path: Path) -> str:
    if path.is_dir():
        return "a SavedModel folder" if (path / "saved_model.pb").exists() else "a folder"
    return "an HDF5 file, which may run code that it carries"


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Every object that a configuration describes, with what it holds."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config
        for value in config.values():
            yield from _objects(value)
    elif isinstance(config, list):
        for value in config:
            yield from _objects(value)


def _expect_code(path: Path, config: Any, *, known: set[str], module: Path | None) -> None:
    """Raise ModelError when classes or functions are neither Keras's nor registered nor in the user's code."""
    from keras import saving

    missing = {}
    for described in _objects(config):
        name, registered = _own_name(described), described.get("registered_name") or ""
        if name and not {name, registered} & known and saving.get_registered_object(registered) is None:
            missing[name] = _place(described)
    if not missing:
        return
    named = ", ".join(f"{name}{place}" for name, place in missing.items())
    what = f"{path}: the model needs code that is not in the file"
    raise ModelError(
        what,
        expected=f"the definition of {named}",
        received="none" if module is None else f"{module}, which does not define it",
        action="Give the Python file that defines it with --module FILE.py, or save a model of Keras's own layers.",
    )


def _own_name(described: dict[str, Any]) -> str:
    """The name of a class or function that is not Keras's; empty for Keras's."""
    module, name = described.get("module"), described["class_name"]
    if "registered_name" not in described or described["registered_name"] is None:
        return ""
    if name == "function":
        return str(described["config"]) if module == "builtins" else ""
    return "" if str(module).partition(".")[0] in ("keras", "builtins") else str(name)


def _place(described: dict[str, Any]) -> str:
    config = described.get("config")
    own = described.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return f" (layer {own!r})" if own else ""


def _expect_no_lambda(path: Path, config: Any) -> None:
    for described in _objects(config):
        function = described.get("config", {}).get("function") if described["class_name"] == "Lambda" else None
        if isinstance(function, dict) and function.get("class_name") == "__lambda__":
            what = f"{path}: layer {described['config'].get('name')!r} is a Lambda, whose code would be run"
            raise ModelError(
                what,
                expected="layers without code of their own",
                received="Python code in the model file",
                action="Where you trust whoever made the file, give --unsafe-lambda; else save the model with a layer "
                "class in its place, and give that with --module FILE.py.",
            )


def _imported(path: Path) -> ModuleType:
    """The user's code, run."""
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        what = f"{path}: not Python code"
        raise ModelError(what, expected="a file NAME.py", received=path.name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        received = error.strerror or str(error)
        what = f"{path}: cannot be read"
        raise ModelError(what, expected="a file NAME.py", received=received) from error
    except Exception as error:  # the user's code can raise anything
        received = f"{type(error).__name__}: {said(error)}"
        what = f"{path}: the code does not run"
        raise ModelError(what, expected="layers' definitions", received=received) from error
    return module


def _definitions(module: ModuleType) -> dict[str, Any]:
    """The classes and functions of the user's code, by name."""
    return {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == _MODULE}


def said(error: Exception) -> str:
    """What an error of Keras or TensorFlow says, in one line without colours, and without the listing at its end."""
    text = " ".join(_COLOURS.sub("", str(error)).split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
