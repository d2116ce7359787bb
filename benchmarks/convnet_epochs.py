"""Our ``convnet``, for ``benchmarks.time_to_accuracy``: in fewer epochs than by default.

Takes a seed, a folder with MNIST's four IDX files and the number of epochs. With ``validation``, it
is evaluated on the validation part of the training images, as one does to choose that number.
"""

import sys

import numpy as np

from benchmarks.peers.clock import Clock
from tasks.build import build
from tasks.data.sources import resolve
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.training.fit import fit
from tasks.training.networks import architecture_of
from tasks.training.validation import hold_out

recipe = resolve(
    dataset=sys.argv[2], seed=int(sys.argv[1]), architecture="convnet", epochs=int(sys.argv[3])
)
training, evaluated = preprocess.fn(load.fn(recipe.dataset))
clock = Clock()
held_out = hold_out(training, 0, recipe)
if held_out is not None:
    if "validation" in sys.argv:
        evaluated = training[held_out]
    training = training[~held_out]
inputs = evaluated.inputs
architecture = architecture_of(recipe)
model = build.fn(recipe)
architecture.set_schedule(model, recipe, len(training))


def accuracy() -> float:
    """The share that the network, as it would be served now, answers right."""
    served = architecture.served(model, recipe)
    parts = [served(inputs[at : at + 500], training=False) for at in range(0, len(inputs), 500)]
    return float((np.concatenate(parts).argmax(axis=1) == evaluated.labels).mean())


def on_epoch_end(*_: float) -> None:
    """Evaluate, and end the training when that is enough."""
    if clock.epoch(accuracy) and "validation" not in sys.argv:
        sys.exit()


fit(
    model, training, epochs=recipe.epochs, batch_size=recipe.batch_size, seed=recipe.seed,
    on_epoch_end=on_epoch_end,
    augment=architecture.augmentation and architecture.augmentation(recipe.seed),
)  # fmt: skip
