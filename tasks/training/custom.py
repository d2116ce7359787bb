"""A network of the user's own: ``--architecture package.module:function``.

The function takes the recipe and returns a compiled Keras model, as those in networks.py do.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.errors import InvalidParameterError
from storage.recipe import Recipe
from tasks.training.keras_import import wait_for_keras

if TYPE_CHECKING:
    import keras


def import_function(architecture: str) -> Callable[[Recipe], Any]:
    """Import the function that ``package.module:function`` names.

    Python finds its module as any other (PYTHONPATH, installed packages), or else in the working
    directory.

    Raises:
        InvalidParameterError: If there is no such module or function, or its import fails.
    """
    wait_for_keras()  # the module most likely imports it, and two threads must not do so at once
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
    module, _, name = architecture.partition(":")
    try:
        function = getattr(import_module(module), name)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise InvalidParameterError(
            f"architecture: expected package.module:function, importable from {folder},"
            f" received {architecture} ({reason}); check the spelling and PYTHONPATH"
        ) from error
    if not callable(function):
        raise InvalidParameterError(
            f"architecture: expected a function, received {architecture},"
            f" which is of type {type(function).__name__}; name a function that takes the recipe"
        )
    return function  # type: ignore[no-any-return]


def make_custom_network(recipe: Recipe) -> keras.Model:
    """Call the user's function, and check that its model can be trained, stored and served.

    Keras' random state is set to the recipe's seed first, for layers without a seed of their own.

    Raises:
        InvalidParameterError: If the function cannot be imported, or its model does not fit.
    """
    import keras

    function = import_function(recipe.architecture)
    keras.utils.set_random_seed(recipe.seed)
    model = function(recipe)
    try:
        _check(model)
    except ValueError as error:
        raise InvalidParameterError(f"architecture {recipe.architecture}: {error}") from error
    return model


def _check(model: Any) -> None:
    """Raise ValueError, with a message of one line, if a model does not fit."""
    import keras

    if not isinstance(model, keras.Model):
        raise ValueError(f"expected a keras.Model, received {type(model).__name__}; return one")
    if not model.compiled:
        raise ValueError("expected a compiled model; call its compile() before returning it")
    shape = getattr(model, "input_shape", (None, 784))  # a subclass may not know it yet
    if shape != (None, 784):
        raise ValueError(
            f"expected an input of shape (None, 784), received {shape}; begin with"
            " keras.Input((784,)), and keras.layers.Reshape((28, 28, 1)) if needed"
        )
    images, targets = np.zeros((10, 784), np.float32), np.eye(10, dtype=np.float32)
    with _expected("a model for images of shape (n, 784)"):
        answers = model(images)
    received = getattr(answers, "shape", type(answers).__name__)
    if received != (10, 10):
        raise ValueError(f"expected an output of shape (10, 10) for 10 images, received {received}")
    total = float(np.asarray(answers, np.float32)[0].sum())
    if not math.isclose(total, 1, abs_tol=0.02):
        raise ValueError(
            f"expected 10 probabilities per image, received numbers with the sum {total:.3g};"
            " end with the activation softmax"
        )
    if model.loss:  # without one, the model has a training step of its own
        with _expected("a loss for one-hot targets of shape (n, 10)"):
            model.compute_loss(images, targets, answers)


@contextmanager
def _expected(what: str) -> Iterator[None]:
    """Turn whatever the user's layers and loss raise into one line."""
    try:
        yield
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(
            f"expected {what}, received {type(error).__name__}: {' '.join(lines[:2])}"
        ) from error
