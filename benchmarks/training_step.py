"""Our training step alone, on the recipe of ``plain_keras.py`` and without a Prefect server.

Takes a seed and a folder with MNIST's four IDX files.
"""

import json
import sys
import time

from tasks.build import build
from tasks.data.sources import make_recipe
from tasks.evaluate import evaluate
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.train import train

recipe = make_recipe(
    dataset=sys.argv[2], name=None, architecture="mlp", epochs=10,
    batch_size=128, learning_rate=0.001, seed=int(sys.argv[1]), min_accuracy=None,
)  # fmt: skip
training, test = preprocess.fn(load.fn(recipe.source))
model = build.fn(recipe)
started = time.perf_counter()
train.fn(model, training, recipe)
fit_s = time.perf_counter() - started
evaluation = evaluate.fn(model, test)
print(json.dumps({"fit_s": fit_s, "accuracy": evaluation.correct / evaluation.total}))
