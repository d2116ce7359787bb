"""The seed recipe as a plain Keras script: the baseline of ``benchmarks.training``.

Takes a seed and a folder with MNIST's four IDX files. With ``--our-order`` it takes the images in
the order of our training step, to compare accuracies.
"""

import gzip
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray


def read(name: str, header_bytes: int) -> NDArray[Any]:
    """Read an IDX file, plain or with ``.gz``; uint8, flat."""
    path = Path(sys.argv[2], name)
    data = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=header_bytes)


x_train, y_train = read("train-images-idx3-ubyte", 16), read("train-labels-idx1-ubyte", 8)
x_test, y_test = read("t10k-images-idx3-ubyte", 16), read("t10k-labels-idx1-ubyte", 8)
x_train = x_train.reshape(-1, 784).astype("float32") / 255
x_test = x_test.reshape(-1, 784).astype("float32") / 255
y_train, y_test = keras.utils.to_categorical(y_train), keras.utils.to_categorical(y_test)

# Keras draws the seeds of new weights from here. keras.utils.set_random_seed would also seed
# TensorFlow; `fit` would then use the same order of images in every epoch and reach a lower
# accuracy than with a new order in each, which is what we compare with.
if "--our-order" in sys.argv:
    keras.utils.set_random_seed(int(sys.argv[1]))
else:
    random.seed(int(sys.argv[1]))
hidden, output = layers.Dense(512, activation="relu"), layers.Dense(10, activation="softmax")
model = keras.Sequential([keras.Input((784,)), hidden, output])
model.compile("rmsprop", loss="categorical_crossentropy", metrics=["accuracy"])
started = time.perf_counter()
if "--our-order" in sys.argv:
    shuffler = np.random.default_rng(int(sys.argv[1]))
    for _ in range(10):
        order = shuffler.permutation(len(x_train))
        model.fit(x_train[order], y_train[order], batch_size=128, shuffle=False, verbose=0)
else:
    model.fit(x_train, y_train, epochs=10, batch_size=128, verbose=0)
fit_s = time.perf_counter() - started
_, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(json.dumps({"fit_s": fit_s, "accuracy": accuracy}))
