import json
import math
from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import pytest

from storage.errors import TrainingDivergedError
from storage.recipe import Network, Recipe
from tasks.build import build
from tasks.data.dataset import Dataset
from tasks.evaluate import evaluate
from tasks.preprocess import Examples, preprocess
from tasks.stage import weights_digest
from tasks.train import train


@pytest.fixture(scope="module")
def examples(few: Dataset) -> Examples:
    """130 training examples: not a multiple of any batch size below."""
    training, _ = preprocess.fn(few)
    return training[:130]


@pytest.mark.parametrize(
    ("architecture", "batch_size"),
    [("mlp", 1), ("mlp", 50), ("mlp", 130), ("mlp", 1000), ("cnn", 50), ("cnn", 130)],
)
def test_training_gives_the_weights_and_curve_of_keras_fit(
    new_recipe: Callable[..., Recipe], examples: Examples, architecture: str, batch_size: int
) -> None:
    recipe = new_recipe(architecture=architecture, batch_size=batch_size)
    model = build.fn(recipe)
    curve = train.fn(model, examples, recipe).curve.epochs

    other = build.fn(recipe)
    order = np.random.default_rng(recipe.seed)
    history = []
    for _ in range(recipe.epochs):
        shuffled = examples[order.permutation(len(examples))]
        history.append(
            other.fit(
                shuffled.inputs,
                shuffled.targets,
                batch_size=batch_size,
                shuffle=False,
                verbose=0,
            ).history
        )
    # Both start from the same weights and draw the same dropout. They differ by rounding only,
    # since XLA fuses the optimizer's multiplications and additions.
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6)
    assert [epoch.loss for epoch in curve] == pytest.approx(
        [epoch["loss"][0] for epoch in history], rel=1e-5
    )
    assert [epoch.accuracy for epoch in curve] == pytest.approx(
        [epoch["accuracy"][0] for epoch in history], abs=1e-6
    )
    assert all(epoch.duration_s > 0 for epoch in curve)


def test_the_weights_follow_from_the_seed(
    new_recipe: Callable[..., Recipe], examples: Examples
) -> None:
    def digest(seed: int) -> str:
        recipe = new_recipe(seed=seed)
        model = build.fn(recipe)
        train.fn(model, examples, recipe)
        return weights_digest(model)

    assert digest(3) == digest(3) != digest(4)


def test_held_out_examples_are_not_trained_on_but_scored_after_each_epoch(
    new_recipe: Callable[..., Recipe], examples: Examples
) -> None:
    recipe, held_out = new_recipe(), np.arange(130) % 4 == 0
    model, other = build.fn(recipe), build.fn(recipe)
    trained = train.fn(model, examples, recipe, held_out)
    train.fn(other, examples[~held_out], recipe)
    assert weights_digest(model) == weights_digest(other)
    last = trained.curve.epochs[-1]
    evaluation = evaluate.fn(model, examples[held_out])
    assert last.validation_accuracy == evaluation.correct / 33
    assert last.validation_loss == pytest.approx(evaluation.loss)
    assert trained.curve.epochs[0].validation_loss > last.validation_loss


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_training_fails_if_a_single_pixel_is_not_finite(
    new_recipe: Callable[..., Recipe], examples: Examples, value: float
) -> None:
    pixels = examples.pixels.astype(np.float32)
    pixels[77, 400] = value
    recipe = new_recipe(epochs=3)
    with pytest.raises(TrainingDivergedError, match=r"^expected finite .* epoch 1, received loss"):
        train.fn(build.fn(recipe), Examples(pixels, examples.labels), recipe)


@pytest.mark.slow
def test_two_new_processes_reach_the_same_weights_from_the_same_seed(
    at_once: Callable[[str, str, Sequence[Sequence[object]]], list[str]],
) -> None:
    prepare = """
import json
from typing import get_args
from storage.recipe import Network
from tasks.build import build
from tasks.data.sources import resolve
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.stage import weights_digest
from tasks.train import train
"""
    work = """
training, _ = preprocess.fn(load.fn('mnist-5k'))
for architecture in get_args(Network):
    recipe = resolve(dataset='mnist-5k', architecture=architecture, epochs=2, seed=11)
    model = build.fn(recipe)
    epochs = train.fn(model, training, recipe).curve.epochs
    curve = [(epoch.loss, epoch.accuracy) for epoch in epochs]
    print(json.dumps([weights_digest(model), curve]))
"""
    first, second = at_once(prepare, work, [[], []])
    assert first == second
    digests = {json.loads(line)[0] for line in first.splitlines()}
    assert len(digests) == len(get_args(Network))
