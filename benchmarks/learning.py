"""What corrections teach: ``python -m benchmarks.learning``.

On all of MNIST: a champion; 300 training images slanted by 25 degrees, which it has not seen, sent
to `digits serve` as corrections; the nightly deployment, told to run at once, and again if the
gate rejects the model. Then the champions before and after on the 10,000 test images, as they are
and slanted: none of those was ever corrected. A few minutes.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.prefect_server import prefect_server
from benchmarks.training import MNIST
from serving.champion import load_champion
from storage.models.store import open_store
from storage.settings import read_settings
from tasks.data.idx import read_images, read_labels

CORRECTIONS = 300
NIGHTS = 7


def slanted(images: NDArray[np.uint8], degrees: float = 25) -> NDArray[np.uint8]:
    """Lean images to the left, around their middle, as few people write; below 0 to the right."""
    slant = np.tan(np.radians(degrees))
    matrix = (1, -slant, 14 * slant, 0, 1, 0)
    leaning = [
        Image.fromarray(image).transform((28, 28), Image.Transform.AFFINE, matrix,
                                         Image.Resampling.BICUBIC)
        for image in images
    ]  # fmt: skip
    return np.stack([np.asarray(image) for image in leaning])


def main() -> None:
    """Show accuracy before and after."""
    train_images = read_images(MNIST / "train-images-idx3-ubyte.gz")
    train_labels = read_labels(MNIST / "train-labels-idx1-ubyte.gz")
    test_images = read_images(MNIST / "t10k-images-idx3-ubyte.gz")
    test_labels = read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")
    chosen = np.random.default_rng(0).choice(len(train_images), CORRECTIONS, replace=False)
    sets = {"test images": test_images, "test images, slanted": slanted(test_images)}
    with (
        tempfile.TemporaryDirectory() as folder,
        prefect_server(Path(folder)) as environment,
    ):

        def accuracies() -> dict[str, float]:
            champion = load_champion(open_store(read_settings(environment), MNIST.name))
            return {
                name: float(
                    (champion.classifier.probabilities(images).argmax(1) == test_labels).mean()
                )
                for name, images in sets.items()
            }

        run(environment, "digits", "retrain", "--dataset", str(MNIST), "--seed", "0")
        before = accuracies()
        correct(environment, slanted(train_images[chosen]), train_labels[chosen])
        nights = 0
        while (after := accuracies()) == before and nights < NIGHTS:
            nights += 1
            night(environment, nights)
        run(environment, "digits", "history")
    print(f"\nNights until one was promoted: {nights}")
    print(f"{'accuracy of the champion':28}{'before':>9}{'after':>9}")
    for name in sets:
        print(f"{name:28}{before[name]:9.4f}{after[name]:9.4f}")


def correct(
    environment: Mapping[str, str],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    actor: str = "benchmark",
) -> None:
    """Send corrections to a server of our own."""
    with subprocess.Popen(
        [command("digits"), "serve", "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        (url,) = re.findall(r"http://[\w.:]+", server.stdout.readline() if server.stdout else "")
        for image, label in zip(images.tolist(), labels.tolist(), strict=True):
            sent = {"image": image, "label": label, "actor": actor}
            httpx.post(f"{url}/corrections", json=sent).raise_for_status()
        server.terminate()


def night(environment: Mapping[str, str], seed: int) -> None:
    """Run the nightly deployment now."""
    run(environment, "prefect", "deployment", "run", "retrain/nightly",
        "-p", f"dataset={MNIST}", "-p", f"seed={seed}", "--watch")  # fmt: skip


def run(environment: Mapping[str, str], name: str, *arguments: str) -> None:
    """Run a command of this environment."""
    subprocess.run([command(name), *arguments], check=True, env=environment)


def command(name: str) -> str:
    """The path of a command of this environment."""
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    main()
