"""How training time grows with the data and the network: ``python -m benchmarks.growth``.

Runs the training step on MNIST's images, on a tenth of them, and on ten times as many (shifted by
up to two pixels), and with 128 to 4,096 hidden units, each in a new process. It measures two
epochs: the first includes compilation, the second is the cost of each further one. Export, scoring
and report depend only on the model and the test set, so they are left out. Exits with 1 if a step
grows faster than the data.
"""

import gzip
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.training import PROJECT, parser_with_data
from tasks.data.idx import FILES, find_files, read_images, read_labels, write_images, write_labels

IMAGES = (6_000, 60_000, 600_000)
WIDTHS = (128, 512, 1024, 2048, 4096)
# Tolerated beyond a tenfold growth: a constant part and a noisy machine.
MOST = 11.0


def main() -> int:
    """Measure, print, and return the exit code."""
    arguments = parser_with_data("growth", __doc__).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        print("seconds of each step, and peak memory, by the number of training images")
        rows = []
        for count in IMAGES:
            folder = Path(scratch) / str(count)
            # A new process inherits the peak memory of its parent, so the parent stays small.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                pool.submit(_grown, arguments.data, folder, count).result()
            rows.append(_measure(folder, 512))
            if count == IMAGES[0]:
                print(f"{'images':>9}" + "".join(f"{name:>12}" for name in rows[0]))
            print(f"{count:9,}" + "".join(f"{value:12.2f}" for value in rows[-1].values()))
        print("\nthe same by the width of the hidden layer, with 60,000 images")
        for width in WIDTHS:
            row = _measure(Path(scratch) / "60000", width)
            print(f"{width:9,}" + "".join(f"{value:12.2f}" for value in row.values()))
    earlier, later = rows[-2:]
    worst = max(later[name] / max(earlier[name], 0.01) for name in later)
    print(f"\nfrom 60,000 to 600,000 images the most that a step grows is {worst:.1f} times")
    return 0 if worst <= MOST else 1


def _grown(source: Path, folder: Path, count: int) -> None:
    """A dataset with this many training images and the unchanged test set."""
    folder.mkdir()
    paths = find_files(source)
    images, labels = read_images(paths["train_images"]), read_labels(paths["train_labels"])
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1), (2, 0), (-2, 0), (0, 2)]
    copies = -(-count // len(images))
    moved = [np.roll(images, shift, axis=(1, 2))[:count] for shift in shifts[:copies]]
    write_images(folder / FILES["train_images"], np.concatenate(moved).tobytes())
    write_labels(folder / FILES["train_labels"], np.tile(labels, copies)[:count].tobytes())
    write_images(folder / FILES["test_images"], read_images(paths["test_images"]).tobytes())
    write_labels(folder / FILES["test_labels"], read_labels(paths["test_labels"]).tobytes())
    for path in list(folder.iterdir()):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
        path.unlink()


def _measure(folder: Path, width: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.growth", "--step", str(folder), str(width)]
    done = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"expected exit code 0 of {' '.join(command)}, received:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _step(source: str, width: int) -> dict[str, float]:
    """Measure each step in this process."""
    import resource

    import keras

    from tasks.data.sources import resolve
    from tasks.evaluate import evaluate
    from tasks.load import load
    from tasks.preprocess import preprocess
    from tasks.train import train
    from tasks.validate import validate

    recipe = resolve(dataset=source, name="grown", epochs=2, seed=0)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("rmsprop", "categorical_crossentropy", metrics=["accuracy"])
    taken, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        taken[name], started = time.perf_counter() - started, time.perf_counter()

    data = load.fn(source)
    lap("load")
    validate.fn(data, None, 1.0)
    lap("validate")
    training, test = preprocess.fn(data)
    lap("preprocess")
    curve = train.fn(model, training, recipe).curve.epochs
    taken["epoch 1"], taken["epoch 2"] = (epoch.duration_s for epoch in curve)
    started = time.perf_counter()
    evaluate.fn(model, test)
    lap("evaluate")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {**taken, "peak, GiB": peak / (2**30 if sys.platform == "darwin" else 2**20)}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(_step(sys.argv[2], int(sys.argv[3]))))
    else:
        sys.exit(main())
