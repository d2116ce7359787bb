"""Our training step alone, with the recipe of ``plain_keras.py`` and without a Prefect server.

Takes a seed and a folder with MNIST's four IDX files.
"""

import json
import sys
import time

from tasks.build import build
from tasks.data.sources import resolve
from tasks.evaluate import evaluate
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.train import train

recipe = resolve(dataset=sys.argv[2], seed=int(sys.argv[1]))
training, test = preprocess.fn(load.fn(recipe.dataset))
model = build.fn(recipe)
started = time.perf_counter()
train.fn(model, training, recipe)
fit_s = time.perf_counter() - started
evaluation = evaluate.fn(model, test)
print(json.dumps({"fit_s": fit_s, "accuracy": evaluation.correct / evaluation.total}))
