"""A network of the user's own, by ``module:function``."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.errors import InvalidParameterError
from storage.recipe import Recipe
from tasks.build import build
from tasks.data.dataset import Dataset
from tasks.preprocess import Examples, preprocess
from tasks.stage import weights_digest
from tasks.train import train
from tasks.training.custom import import_function
from tasks.training.fit import supports_graph

MODULE = """
import keras
from keras import layers

def compiled(*layers, loss="categorical_crossentropy", shape=(784,)):
    model = keras.Sequential([keras.Input(shape), *layers])
    model.compile("rmsprop", loss, metrics=["accuracy"])
    return model

def wide(recipe):
    model = compiled(layers.Dense(64, activation="relu"), layers.Dropout(0.1),
                     layers.Dense(10, activation="softmax"))
    model.optimizer.learning_rate = recipe.learning_rate
    return model

class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(32, activation="relu")
        self.answer = layers.Dense(10, activation="softmax")

    def call(self, x):
        return self.answer(self.hidden(x))

    def train_step(self, data):
        return super().train_step(data)

def subclassed(recipe):
    model = Subclassed()
    model.compile(keras.optimizers.Adam(recipe.learning_rate), "categorical_crossentropy")
    return model

NUMBER = 7

def nothing(recipe): pass
def not_compiled(recipe): return keras.Sequential([keras.Input((784,)), layers.Dense(10)])
def images(recipe): return compiled(layers.Flatten(), layers.Dense(10), shape=(28, 28))
def eleven(recipe): return compiled(layers.Dense(11, activation="softmax"), loss="mse")
def logits(recipe): return compiled(layers.Dense(10), loss="mse")
def sparse(recipe):
    return compiled(layers.Dense(10, activation="softmax"), loss="sparse_categorical_crossentropy")
def named(recipe):
    x = keras.Input((784,))
    model = keras.Model(x, {"digit": layers.Dense(10, activation="softmax")(x)})
    model.compile("sgd", "mse")
    return model
def two_inputs(recipe):
    x, y = keras.Input((784,)), keras.Input((784,))
    model = keras.Model([x, y], layers.Dense(10, activation="softmax")(x + y))
    model.compile("sgd", "mse")
    return model

class ForImages(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolve, self.flatten = layers.Conv2D(2, 3), layers.Flatten()
    def call(self, x): return self.flatten(self.convolve(x))

def for_images(recipe):
    model = ForImages()
    model.compile("sgd", "mse")
    return model
"""


@pytest.fixture(autouse=True)
def mynets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's in the working directory, and what is wrong beside it."""
    (tmp_path / "mynets.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import keras_with_a_typing_error\n")
    (tmp_path / "unfinished.py").write_text("def network(recipe:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    for name in ("mynets", "broken", "unfinished"):
        sys.modules.pop(name, None)


@pytest.fixture
def examples(few: Dataset) -> Examples:
    return preprocess.fn(few)[0]


@pytest.mark.parametrize(("name", "in_graph"), [("wide", True), ("subclassed", False)])
def test_a_users_network_learns_and_its_weights_follow_from_the_seed(
    name: str, in_graph: bool, new_recipe: Callable[..., Recipe], examples: Examples
) -> None:
    def digest(seed: int) -> str:
        recipe = new_recipe(
            architecture=f"mynets:{name}", learning_rate=0.01, epochs=3, batch_size=50, seed=seed
        )
        model = build.fn(recipe)
        assert supports_graph(model) is in_graph
        assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
        curve = train.fn(model, examples, recipe).curve.epochs
        assert curve[-1].loss < curve[0].loss
        assert curve[-1].accuracy > 0.5
        return weights_digest(model)

    assert digest(3) == digest(3) != digest(4)


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("missing:network", "ModuleNotFoundError: No module named 'missing'"),
        ("mynets.deeper:network", "ModuleNotFoundError: No module named 'mynets.deeper'.*"),
        ("mynets:missing", "AttributeError: module 'mynets' has no attribute 'missing'"),
        ("broken:network", "ModuleNotFoundError: No module named 'keras_with_a_typing_error'"),
        ("unfinished:network", "SyntaxError: '\\(' was never closed.*"),
    ],
)
def test_a_name_that_cannot_be_imported_is_one_clear_line(
    architecture: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        import_function(architecture)
    assert refused.match(
        rf"^architecture: expected package.module:function, importable from {tmp_path},"
        rf" received {architecture} \({reason}\); check the spelling and PYTHONPATH$"
    )
    assert refused.value.exit_code == 2


def test_a_name_that_is_not_a_functions_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match=r"expected a function, .* is of type int;"):
        import_function("mynets:NUMBER")


def test_the_working_directory_hides_no_module_that_is_installed(tmp_path: Path) -> None:
    (tmp_path / "colorsys.py").write_text("def rgb_to_hsv(recipe): raise AssertionError\n")
    assert import_function("colorsys:rgb_to_hsv")(1, 1, 1) == (0.0, 0.0, 1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("nothing", "expected a keras.Model, received NoneType; return one"),
        ("not_compiled", "expected a compiled model; call its compile"),
        ("images", r"expected an input of shape \(None, 784\), received \(None, 28, 28\); begin"),
        ("two_inputs", r"expected an input of shape \(None, 784\), received \[\(None, 784\), "),
        ("for_images", r"expected a model for images .* received ValueError: .*ndim"),
        ("sparse", r"expected a loss for one-hot targets .* received ValueError: .*rank"),
        ("eleven", r"expected an output of shape \(10, 10\) for 10 images, received \(10, 11\)"),
        ("named", r"expected an output of shape \(10, 10\) for 10 images, received dict"),
        ("logits", r"expected 10 probabilities per image, .* with the sum 0; end with the"),
    ],
)
def test_a_model_that_does_not_fit_is_one_clear_line(
    name: str, problem: str, new_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        build.fn(new_recipe(architecture=f"mynets:{name}"))
    assert refused.match(f"^architecture mynets:{name}: {problem}")
    assert "\n" not in str(refused.value)


def test_an_error_inside_the_users_function_keeps_its_traceback(
    tmp_path: Path, new_recipe: Callable[..., Recipe]
) -> None:
    (tmp_path / "mynets.py").write_text("def network(recipe):\n    return recipe.depth\n")
    with pytest.raises(AttributeError, match="has no attribute 'depth'"):
        build.fn(new_recipe(architecture="mynets:network"))
