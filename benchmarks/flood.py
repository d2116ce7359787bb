"""Corrections turned against the model, and honest ones: ``python -m benchmarks.flood``.

On all of MNIST, through `digits serve` and the nightly deployment, which takes the champion's
recipe: a cnn of 3 epochs; 300 barred 7s that it reads rightly with p > 0.9, which one person labels
1; then 150 hooked 1s that it reads wrongly or with p < 0.9, which another person labels rightly.
All are drawn on training images. It prints the champion's right answers on test images, before and
after, and how many corrections are held. Some ten minutes.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn import barred, hooked
from benchmarks.learning import command, correct, night, run
from benchmarks.prefect_server import prefect_server
from benchmarks.training import MNIST
from serving.champion import load_champion
from storage.models.classifier import Classifier
from storage.models.store import open_store
from storage.settings import read_settings
from tasks.data.idx import read_images, read_labels

FLOOD, HONEST, SHOWN = 300, 150, 200
NIGHTS = 10


def main() -> None:
    """Show the champion's right answers before and after, and how many corrections are held."""
    train_images = read_images(MNIST / "train-images-idx3-ubyte.gz")
    train_labels = read_labels(MNIST / "train-labels-idx1-ubyte.gz")
    test_images = read_images(MNIST / "t10k-images-idx3-ubyte.gz")
    test_labels = read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")
    sevens = np.stack([barred(image) for image in test_images[test_labels == 7]])
    ones = np.stack([hooked(image) for image in test_images[test_labels == 1][:SHOWN]])
    with tempfile.TemporaryDirectory() as folder, prefect_server(Path(folder)) as environment:

        def champion() -> Classifier:
            return load_champion(open_store(read_settings(environment), MNIST.name)).classifier

        run(environment, "digits", "retrain", "--dataset", str(MNIST), "--architecture", "cnn",
            "--epochs", "3", "--seed", "0")  # fmt: skip
        # Those that the first champion reads rightly.
        sevens = sevens[champion().probabilities(sevens).argmax(axis=1) == 7][:SHOWN]
        lines = [("before", *counts(champion(), test_images, test_labels, sevens, ones), 0)]

        drawn = np.stack([barred(image) for image in train_images[train_labels == 7][:1500]])
        probabilities = champion().probabilities(drawn)
        sure = (probabilities.argmax(axis=1) == 7) & (probabilities.max(axis=1) > 0.9)
        correct(environment, drawn[sure][:FLOOD], np.full(FLOOD, 1), actor="flood")
        night(environment, 1)
        figures = counts(champion(), test_images, test_labels, sevens, ones)
        lines.append((f"after {FLOOD} barred 7s labelled 1", *figures, held(environment)))

        drawn = np.stack([hooked(image) for image in train_images[train_labels == 1][:1500]])
        probabilities = champion().probabilities(drawn)
        doubtful = (probabilities.argmax(axis=1) != 1) | (probabilities.max(axis=1) < 0.9)
        correct(environment, drawn[doubtful][:HONEST], np.full(HONEST, 1), actor="honest")
        version, nights = champion().version.name, 0
        while champion().version.name == version and nights < NIGHTS:
            nights += 1
            night(environment, 1 + nights)
        figures = counts(champion(), test_images, test_labels, sevens, ones)
        lines.append((f"after {HONEST} hooked 1s labelled 1", *figures, held(environment)))
        run(environment, "digits", "history")
    print(f"\nNights until the hooked 1s were learnt: {nights}")
    print(f"{'right answers of the champion':33}   test  barred 7s  hooked 1s  held")
    for what, right, right_sevens, right_ones, waiting in lines:
        print(f"{what:33}{right:7,}{right_sevens:11}{right_ones:11}{waiting:6}")


def counts(
    champion: Classifier,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    sevens: NDArray[np.uint8],
    ones: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """The right answers on the test set, on barred 7s and on hooked 1s."""
    test, seven, one = (
        champion.probabilities(given).argmax(axis=1) for given in (images, sevens, ones)
    )
    return int((test == labels).sum()), int((seven == 7).sum()), int((one == 1).sum())


def held(environment: Mapping[str, str]) -> int:
    """How many corrections are held."""
    printed = subprocess.run(
        [command("digits"), "corrections", "--held", "--json"],
        check=True, env=environment, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return len(json.loads(printed))


if __name__ == "__main__":
    main()
