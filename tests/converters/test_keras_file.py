"""A .keras file: loaded without its code, or one line that says what is missing and what to do."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import foreign_code
from edge_vae.errors import ModelError
from edge_vae_converters.keras_file import load

pytestmark = pytest.mark.keras

CODE = Path(foreign_code.__file__)


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that never saw the code of these tests."""
    registered = keras.saving.get_custom_objects()
    for name in [name for name in registered if name.startswith("theirs>")]:
        monkeypatch.delitem(registered, name)


def test_a_model_of_keras_own_layers_needs_nothing(theirs: Callable[[str], Path]) -> None:
    assert load(theirs("flat")).input_shape[0] is None


@pytest.mark.parametrize(
    ("name", "named"), [("dictionary", r"Sampling \(layer 'sampling'\)"), ("subclassed", "SubclassedVae")]
)
@pytest.mark.usefixtures("unregistered")
def test_missing_code_is_named_with_its_layer_and_the_remedy(
    theirs: Callable[[str], Path], tmp_path: Path, name: str, named: str
) -> None:
    path = theirs(name)
    with pytest.raises(ModelError, match=rf"the definition of {named}.*received none.*--module FILE\.py"):
        load(path)
    other = tmp_path / "other.py"
    other.write_text("class Unrelated: pass\n")
    with pytest.raises(ModelError, match=rf"the definition of {named}.*other\.py, which does not define it"):
        load(path, module=other)


@pytest.mark.parametrize("name", ["dictionary", "subclassed"])
@pytest.mark.usefixtures("unregistered")
def test_code_in_a_module_is_used_whether_registered_or_not(theirs: Callable[[str], Path], name: str) -> None:
    assert load(theirs(name), module=CODE)(np.zeros((2, 32, 7), np.float32))


def test_a_lambda_is_not_run_unless_it_is_wanted(tmp_path: Path) -> None:
    window = layers.Input((8,))
    keras.Model(window, layers.Lambda(lambda x: 2.0 * x, name="twice")(window)).save(tmp_path / "l.keras")
    with pytest.raises(ModelError, match=r"layer 'twice' is a Lambda, whose code would be run.*--unsafe-lambda"):
        load(tmp_path / "l.keras")
    assert load(tmp_path / "l.keras", unsafe_lambda=True)(np.ones((1, 8), np.float32))[0, 0] == 2.0


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("none.keras", None, "cannot be read: expected a .keras file, received No such file"),
        ("text.keras", b"hello", "not a model: .*not a zip file"),
        ("lite.tflite", b"", "received a TFLite model. Make its bundle with edge-vae pack"),
        ("old.h5", b"\x89HDF", "another format: expected a .keras file, received an HDF5 file"),
    ],
)
def test_what_is_no_keras_file_says_what_it_is(tmp_path: Path, file: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=said):
        load(tmp_path / file)


def test_folders_and_damaged_files_are_told(theirs: Callable[[str], Path], tmp_path: Path) -> None:
    saved = tmp_path / "saved.keras"
    saved.mkdir()
    (saved / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelError, match="received a SavedModel folder"):
        load(saved)
    damaged = tmp_path / "damaged.keras"
    with zipfile.ZipFile(theirs("flat")) as whole, zipfile.ZipFile(damaged, "w") as part:
        for name in ("config.json", "metadata.json"):
            part.writestr(name, whole.read(name))
    with pytest.raises(ModelError, match=r"Keras \S+ cannot load the model.*save it again"):
        load(damaged)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise KeyError('home')", "the code does not run: .*KeyError: 'home'"),
        ("def", "SyntaxError"),
        (None, "No such"),
    ],
)
def test_code_that_does_not_run_says_why(
    theirs: Callable[[str], Path], tmp_path: Path, code: str | None, said: str
) -> None:
    module = tmp_path / "code.py"
    if code is not None:
        module.write_text(code)
    with pytest.raises(ModelError, match=said):
        load(theirs("flat"), module=module)
