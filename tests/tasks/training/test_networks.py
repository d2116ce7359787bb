import random
import threading
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from storage.recipe import Network, Recipe
from tasks.build import build
from tasks.stage import weights_digest
from tasks.training.networks import architecture_of, one_cycle

NETWORKS = get_args(Network)
# Of the first weights: runs of earlier releases are repeated with the same ones.
FIRST_WEIGHTS = {
    ("mlp", 7): "b88e4f3f97ea8932209214e14c37a9a9060db91ac8807a368dc04c4487360d16",
    ("mlp", 2**32 - 1): "46fd9444b8f929e0e73168b997db63aa5ba1ba486e5428a113010b211f0a237d",
    ("cnn", 7): "32eb4808982e9eb57003fc1ff53c9540532fdd39bdc42cd8659e6db15b29c6e0",
    ("cnn", 2**32 - 1): "cfcacf05eade8704e916e4fb24e605e8efa883f58bb6974ea47b1d8af76202ba",
}


def test_the_mlp_is_the_seed_network(new_recipe: Callable[..., Recipe]) -> None:
    model = build.fn(new_recipe(architecture="mlp", learning_rate=0.002))
    hidden, output = [layer.get_config() for layer in model.layers]
    assert (hidden["units"], hidden["activation"]) == (512, "relu")
    assert (output["units"], output["activation"]) == (10, "softmax")
    assert model.count_params() == 407_050  # (784 + 1) * 512 + (512 + 1) * 10
    assert type(model.optimizer).__name__ == "RMSprop"
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    assert model.loss == "categorical_crossentropy"


@pytest.mark.parametrize(
    ("architecture", "weights"), [("convnet", 312_042), ("convnet-deep", 704_170)]
)
def test_a_convnet_is_trained_with_one_network_and_served_with_another_that_answers_the_same(
    new_recipe: Callable[..., Recipe], architecture: str, weights: int
) -> None:
    recipe = new_recipe(architecture=architecture)
    trained = build.fn(recipe)
    served = architecture_of(recipe).served(trained, recipe)
    assert trained.count_params() == served.count_params() == weights
    assert {layer.compute_dtype for layer in served.layers} == {"float32"}
    assert {type(layer).__module__.partition(".")[0] for layer in served.layers} == {"keras"}
    assert weights_digest(trained) == weights_digest(served)
    inputs = np.random.default_rng(0).random((50, 784), np.float32)
    answers = [np.asarray(network(inputs), np.float32) for network in (trained, served)]
    np.testing.assert_allclose(*answers, atol=0.05)  # bfloat16 has 8 bits


def test_the_learning_rate_of_a_convnet_rises_and_falls_to_zero() -> None:
    rates = [float(one_cycle(0.004, 100)(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.00008)
    assert max(rates) == rates[15] == pytest.approx(0.004)
    assert rates[57] == pytest.approx(0.002, rel=0.05)
    assert rates[100] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_every_network_turns_flat_images_into_probabilities(
    new_recipe: Callable[..., Recipe], architecture: str
) -> None:
    model = build.fn(new_recipe(architecture=architecture, learning_rate=0.002))
    assert model.name == architecture
    assert float(model.optimizer.learning_rate) == pytest.approx(0.002)
    inputs = np.random.default_rng(0).random((7, 784), np.float32)
    probabilities = np.asarray(model(inputs))
    assert probabilities.shape == (7, 10)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_the_seed_alone_decides_the_first_weights(
    new_recipe: Callable[..., Recipe], architecture: str
) -> None:
    def first_weights(seed: int) -> str:
        return weights_digest(build.fn(new_recipe(architecture=architecture, seed=seed)))

    largest = 2**32 - 1
    assert first_weights(largest) == first_weights(largest)
    assert len({first_weights(seed) for seed in (0, 1, largest)}) == 3


@pytest.mark.parametrize(("architecture", "seed"), FIRST_WEIGHTS)
def test_a_seed_gives_the_same_first_weights_in_every_release(
    new_recipe: Callable[..., Recipe], architecture: str, seed: int
) -> None:
    model = build.fn(new_recipe(architecture=architecture, seed=seed))
    assert weights_digest(model) == FIRST_WEIGHTS[architecture, seed]


@pytest.mark.parametrize("architecture", NETWORKS)
def test_threads_that_draw_random_numbers_at_the_same_time_change_no_weight(
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
