"""The lower bound: only the matrix products of the seed recipe, in NumPy.

Multiplies what ten epochs of 60,000 images do, in the shapes of a batch: 1.64 MFLOP per image.
Takes a seed and a dataset like the other scripts, and ignores both.
"""

import json
import time

import numpy as np

BATCH, STEPS, EPOCHS = 128, 469, 10

random = np.random.default_rng(0)
x, w1, w2 = (random.random(shape, np.float32) for shape in ((BATCH, 784), (784, 512), (512, 10)))
h, g, d = (random.random((BATCH, width), np.float32) for width in (512, 512, 10))
started = time.perf_counter()
for _ in range(EPOCHS * STEPS):
    x @ w1, h @ w2  # forward
    x.T @ g, h.T @ d, d @ w2.T  # gradients of both kernels, and of the hidden layer
print(json.dumps({"fit_s": time.perf_counter() - started, "accuracy": None}))
