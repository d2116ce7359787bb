"""Measure what augmentation costs: ``python -m benchmarks.augmentation FOLDER``.

Trains ``convnet`` on 100 batches of MNIST's images, in turns without augmentation, with it, and
with pictures of no digit too, and prints the processor time of a step (user and system).
"""

import os
import sys
from itertools import pairwise

from tasks.data.sources import resolve
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.training.augment import Augment, make_augmentation
from tasks.training.fit import fit
from tasks.training.networks import architecture_of

BATCHES, ROUNDS = 100, 3

recipe = resolve(dataset=sys.argv[1], architecture="convnet", seed=0)
training, _ = preprocess.fn(load.fn(recipe.dataset))
examples = training[: BATCHES * recipe.batch_size]


def step_ms(augment: Augment | None) -> list[float]:
    """Processor milliseconds of a step in each round, the first of which compiled."""
    times = [os.times()]
    fit(
        architecture_of(recipe).make(recipe), examples, epochs=ROUNDS + 1,
        batch_size=recipe.batch_size, seed=0, augment=augment,
        on_epoch_end=lambda *_: times.append(os.times()),
    )  # fmt: skip
    seconds = [time.user + time.system for time in times]
    return [(b - a) / BATCHES * 1000 for a, b in pairwise(seconds)][1:]


ways = {
    "without": None,
    "augmented": make_augmentation(0),
    "and no digits": make_augmentation(0, no_digits=True),
}
for _ in range(2):
    for name, augment in ways.items():
        print(f"{name:14}", *(f"{ms:5.1f} ms" for ms in step_ms(augment)), flush=True)
