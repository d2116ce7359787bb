import random
import threading
from collections.abc import Callable

import numpy as np
import pytest

from storage.records import ARCHITECTURES, Recipe
from tasks.build import build
from tasks.stage import weights_digest


def test_the_mlp_is_the_seed_network(new_recipe: Callable[..., Recipe]) -> None:
    model = build.fn(new_recipe(architecture="mlp", learning_rate=0.002))
    hidden, output = [layer.get_config() for layer in model.layers]
    assert (hidden["units"], hidden["activation"]) == (512, "relu")
    assert (output["units"], output["activation"]) == (10, "softmax")
    assert model.count_params() == 407_050  # (784 + 1) * 512 + (512 + 1) * 10
    assert type(model.optimizer).__name__ == "RMSprop"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    assert model.loss == "categorical_crossentropy"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_turns_flat_images_into_probabilities(
    new_recipe: Callable[..., Recipe], architecture: str
) -> None:
    model = build.fn(new_recipe(architecture=architecture, learning_rate=0.002))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    inputs = np.random.default_rng(0).random((7, 784), np.float32)
    probabilities = np.asarray(model(inputs))
    assert probabilities.shape == (7, 10)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_seed_and_nothing_else_decides_the_first_weights(
    new_recipe: Callable[..., Recipe], architecture: str
) -> None:
    def first_weights(seed: int) -> str:
        return weights_digest(build.fn(new_recipe(architecture=architecture, seed=seed)))

    largest = 2**32 - 1
    assert first_weights(largest) == first_weights(largest)
    assert len({first_weights(seed) for seed in (0, 1, largest)}) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_threads_that_draw_random_numbers_meanwhile_change_no_weight(
    new_recipe: Callable[..., Recipe], architecture: str
) -> None:
    recipe, ended = new_recipe(architecture=architecture), threading.Event()
    alone = weights_digest(build.fn(recipe))

    def draw() -> None:  # as Prefect's heartbeats do, for their jitter
        while not ended.is_set():
            random.random()

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert {weights_digest(build.fn(recipe)) for _ in range(10)} == {alone}
    finally:
        ended.set()
        thread.join()
