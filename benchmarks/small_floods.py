"""Wrong corrections in too small numbers to be held: ``python -m benchmarks.small_floods``.

On all of MNIST: a champion; barred 7s, drawn on training images, that one person labels 1 although
the champion reads them rightly, surely (p > 0.9) or not; then a model trained with them, by the
champion's recipe and another seed. It prints how many are held and learnt, and the right answers of
both models on the test images and on 200 barred 7s that the champion reads rightly, drawn on test
images. Without corrections, some of these are lost by the other seed alone. Some ten minutes.
"""

from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.drawn import barred
from benchmarks.training import parser_with_data
from storage.recipe import Recipe
from storage.tables.schema import SURE, Correction
from tasks.build import build
from tasks.calibrate import calibrate
from tasks.corrections import add_corrections
from tasks.data.dataset import Dataset
from tasks.data.sources import resolve
from tasks.hold import reasons_to_hold
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.train import train

if TYPE_CHECKING:
    import keras

SHOWN = 200
# How many the champion was sure of, or was not sure of.
FLOODS = ((True, 0), (True, 20), (False, 20), (False, 100), (False, 300))


def main() -> None:
    """Train a champion, and a model for each flood."""
    parser = parser_with_data("small_floods", __doc__)
    parser.add_argument("--architecture", default="cnn", help="[default: %(default)s]")
    parser.add_argument("--epochs", type=int, default=3, help="[default: %(default)s]")
    told = parser.parse_args()

    def recipe(seed: int) -> Recipe:
        return resolve(
            dataset=str(told.data), name="mnist", architecture=told.architecture,
            epochs=told.epochs, seed=seed, corrections=True, min_accuracy=0.0, min_recall=0.0,
        )  # fmt: skip

    data = load.fn(str(told.data))
    champion = _trained(data, recipe(0))
    sevens = _barred(data.test_images[data.test_labels == 7])
    sevens = sevens[_answers(champion, sevens).argmax(axis=1) == 7][:SHOWN]
    drawn = _barred(data.train_images[data.train_labels == 7])
    answers = _answers(champion, drawn)
    right, sure = answers.argmax(axis=1) == 7, answers.max(axis=1) >= SURE
    print(f"{'barred 7s labelled 1':28}  held  learnt    test  barred 7s")
    print(f"{'the champion':28}{'':14}{_counts(champion, data, sevens)}")
    for surely, count in FLOODS:
        chosen = np.flatnonzero(right & (sure == surely))[:count]
        rows = [_correction(drawn[i], float(answers[i].max())) for i in chosen]
        held = reasons_to_hold(rows)
        sent = [row for row in rows if row.digest not in held]
        corrected = add_corrections.fn(data, sent, recipe(1))
        model = _trained(corrected.dataset, recipe(1))
        what = f"{len(chosen)} it was {'sure' if surely else 'not sure'} of" if count else "none"
        learnt = f"{len(held):6}{len(corrected.used):8}"
        print(f"{what:28}{learnt}{_counts(model, data, sevens)}", flush=True)


def _barred(sevens: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([barred(seven) for seven in sevens])


def _trained(data: Dataset, recipe: Recipe) -> "keras.Model":
    training, _ = preprocess.fn(data)
    model = train.fn(build.fn(recipe), training, recipe).model
    return calibrate.fn(model, training).model


def _answers(model: "keras.Model", images: NDArray[np.uint8]) -> NDArray[np.float32]:
    inputs = images.reshape(-1, 784).astype(np.float32) / 255
    answers: NDArray[np.float32] = model.predict(inputs, batch_size=1000, verbose=0)
    return answers


def _counts(model: "keras.Model", data: Dataset, sevens: NDArray[np.uint8]) -> str:
    test = (_answers(model, data.test_images).argmax(axis=1) == data.test_labels).sum()
    return f"{test:8,}{(_answers(model, sevens).argmax(axis=1) == 7).sum():11}"


def _correction(image: NDArray[np.uint8], probability: float) -> Correction:
    content = image.tobytes()
    return Correction(
        dataset="mnist", digest=sha256(content).hexdigest(), image=content, label=1,
        actor="flood", asked_answer=7, asked_probability=min(probability, 1.0),
    )  # fmt: skip


if __name__ == "__main__":
    main()
