"""The convolutional network of Flax's examples/mnist, in JAX alone.

Takes a seed, a folder with MNIST's four IDX files, and the number of epochs.
"""

import sys
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mnist
import numpy as np
from clock import Clock

BATCH, RATE, MOMENTUM = 128, 0.1, 0.9


def fresh(key: Any) -> Any:
    """Kernels as Flax draws them; biases of zero."""
    shapes = {"1": (3, 3, 1, 32), "2": (3, 3, 32, 64), "3": (3136, 256), "4": (256, 10)}
    draw, keys = jax.nn.initializers.lecun_normal(), jax.random.split(key, len(shapes))
    kernels = {f"w{n}": draw(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    return kernels | {f"b{n}": jnp.zeros(shape[-1]) for n, shape in shapes.items()}


def logits_of(weights: Any, x: Any) -> Any:
    """Two convolutions, each halved by averages; two dense layers."""
    for layer in "12":
        x = jax.lax.conv_general_dilated(
            x, weights[f"w{layer}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + weights[f"b{layer}"])
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4
    x = jax.nn.relu(x.reshape(len(x), -1) @ weights["w3"] + weights["b3"])
    return x @ weights["w4"] + weights["b4"]


def loss_of(weights: Any, x: Any, y: Any) -> Any:
    """Mean categorical crossentropy."""
    return -jnp.mean(jax.nn.log_softmax(logits_of(weights, x))[jnp.arange(len(y)), y])


@partial(jax.jit, donate_argnums=(0, 1))
def step(weights: Any, speeds: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """One batch: gradient, and descent with momentum."""
    gradient = jax.grad(loss_of)(weights, x, y)
    speeds = jax.tree.map(lambda s, g: MOMENTUM * s + g, speeds, gradient)
    return jax.tree.map(lambda w, s: w - RATE * s, weights, speeds), speeds


@jax.jit
def right(weights: Any, x: Any, y: Any) -> Any:
    """How many are right."""
    return jnp.sum(logits_of(weights, x).argmax(axis=1) == y)


x_train, y_train, x_test, y_test = mnist.read()
x_train, x_test = x_train.reshape(-1, 28, 28, 1), x_test.reshape(-1, 28, 28, 1)
clock = Clock()
seed, whole = int(sys.argv[1]), len(x_train) // BATCH * BATCH
weights = fresh(jax.random.key(seed))
speeds = jax.tree.map(jnp.zeros_like, weights)
shuffler = np.random.default_rng(seed)


def accuracy() -> float:
    """The share of the test images that are right."""
    parts = range(0, len(x_test), 500)
    found = [right(weights, x_test[at : at + 500], y_test[at : at + 500]) for at in parts]
    return sum(map(int, found)) / len(x_test)


for _ in range(int(sys.argv[3])):
    for rows in shuffler.permutation(len(x_train))[:whole].reshape(-1, BATCH):
        weights, speeds = step(weights, speeds, x_train[rows], y_train[rows])
    jax.block_until_ready(weights)
    if clock.epoch(accuracy):
        break
