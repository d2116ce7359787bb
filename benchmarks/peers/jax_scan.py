"""The seed recipe in JAX: an epoch is one `lax.scan` over the batches, compiled by XLA.

Takes a seed and a folder with MNIST's four IDX files.
"""

import json
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mnist

BATCH, EPOCHS, RATE, DECAY, EPSILON = 128, 10, 0.001, 0.9, 1e-7


def logits_of(weights: Any, x: Any) -> Any:
    """The network's logits."""
    return jax.nn.relu(x @ weights["w1"] + weights["b1"]) @ weights["w2"] + weights["b2"]


def loss_of(weights: Any, x: Any, y: Any) -> Any:
    """Mean categorical crossentropy."""
    return -jnp.mean(jax.nn.log_softmax(logits_of(weights, x))[jnp.arange(len(y)), y])


def step(state: Any, batch: Any) -> tuple[Any, Any]:
    """One batch: gradient, and Keras' rmsprop."""
    weights, squares = state
    loss, gradient = jax.value_and_grad(loss_of)(weights, x_train[batch], y_train[batch])
    squares = jax.tree.map(lambda s, g: DECAY * s + (1 - DECAY) * g * g, squares, gradient)
    weights = jax.tree.map(
        lambda w, s, g: w - RATE * g / jnp.sqrt(s + EPSILON), weights, squares, gradient
    )
    return (weights, squares), loss


@partial(jax.jit, donate_argnums=0)
def epoch(state: Any, order: Any) -> tuple[Any, Any]:
    """All full batches, then the last, shorter one."""
    whole = len(order) // BATCH * BATCH
    state, losses = jax.lax.scan(step, state, order[:whole].reshape(-1, BATCH))
    if whole < len(order):
        state, _ = step(state, order[whole:])
    return state, jnp.mean(losses)


arrays = mnist.read()
x_train, y_train, x_test, y_test = map(jnp.asarray, arrays)
started = time.perf_counter()
key, first, second = jax.random.split(jax.random.key(int(sys.argv[1])), 3)
glorot = jax.nn.initializers.glorot_uniform()
weights = {
    "w1": glorot(first, (784, 512)), "b1": jnp.zeros(512),
    "w2": glorot(second, (512, 10)), "b2": jnp.zeros(10),
}  # fmt: skip
state = weights, jax.tree.map(jnp.zeros_like, weights)
for _ in range(EPOCHS):
    key, mine = jax.random.split(key)
    state, loss = epoch(state, jax.random.permutation(mine, len(x_train)))
    print(f"loss {float(loss):.4f}", file=sys.stderr)
fit_s = time.perf_counter() - started
right = logits_of(state[0], x_test).argmax(axis=1) == y_test
print(json.dumps({"fit_s": fit_s, "accuracy": float(right.mean())}))
