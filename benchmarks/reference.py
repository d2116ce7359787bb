"""Measure the gate's rule ``reference`` on MNIST: ``python -m benchmarks.reference``.

Five champions, of both architectures and several seeds. First a hundred honest nights of each kind:
how often does the rule reject? Then labels that changed: how often does it miss them? The rule's
limits were not chosen by these figures. Ten minutes.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.learning import slanted
from benchmarks.training import MNIST
from storage.models.backends import LocalFolder
from storage.models.classifier import Classifier, load_classifier
from storage.models.store import ModelStore
from storage.recipe import Recipe
from storage.records import Evaluation, Pointer
from tasks.build import build
from tasks.calibrate import calibrate
from tasks.compare import OF_EACH_LABEL
from tasks.data.dataset import Dataset
from tasks.data.sources import resolve
from tasks.gate import gate
from tasks.load import load
from tasks.preprocess import preprocess
from tasks.scoring.reference import Record
from tasks.scoring.values import Measurements, Pairs, Score
from tasks.stage import stage
from tasks.train import train

CHAMPIONS = (("mlp", 10, 0), ("mlp", 10, 1), ("mlp", 3, 2), ("cnn", 2, 3), ("cnn", 1, 4))
NIGHTS = 20  # of each champion
SLANTS = (10, 15, 20, 25, -15, -25)
SAME, OTHER = "aa" * 32, "bb" * 32

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Champion:
    """A model and its answers: to the test images, and to the sample of training images."""

    name: str
    classifier: Classifier
    answers: Labels
    on_sample: Labels


def champions(data: Dataset, sample: Labels, folder: Path) -> Iterator[Champion]:
    """Train them, store them as a night does, and ask what was stored."""
    training, _ = preprocess.fn(data)
    store = ModelStore(LocalFolder(folder), "mnist")
    for architecture, epochs, seed in CHAMPIONS:
        recipe: Recipe = resolve(architecture=architecture, epochs=epochs, seed=seed)
        model = train.fn(build.fn(recipe), training, recipe).model
        name = f"{architecture}, {epochs} epochs, seed {seed}"
        run = f"{architecture}-{seed}"
        candidate = stage.fn(store, run, calibrate.fn(model, training).model, data, {})
        classifier = load_classifier(store.candidate(run), candidate.digest)
        test = answers_of(classifier, data.test_images)
        yield Champion(name, classifier, test, answers_of(classifier, data.train_images[sample]))


def answers_of(classifier: Classifier, images: NDArray[np.uint8]) -> Labels:
    """The digits that it reads."""
    return classifier.probabilities(images).argmax(axis=1)


def confusion(labels: Labels, answers: Labels) -> tuple[tuple[int, ...], ...]:
    """Counts: 10 rows of labels, 10 columns of answers."""
    counted = np.zeros((10, 10), int)
    np.add.at(counted, (labels, answers), 1)
    return tuple(tuple(map(int, row)) for row in counted)


def rejects(
    then: tuple[Labels, Labels],
    tonight: tuple[Labels, Labels],
    training: tuple[Labels, Labels],
    digest: str = OTHER,
) -> bool:
    """What the rule says of labels and answers when the champion was promoted, and tonight."""
    before = Evaluation(0.1, confusion(*then))
    record = Record(SAME, before.correct, before.total, before.confusion)
    now = Evaluation(0.1, confusion(*tonight))
    champion = Score(now, 0.0, record=record, on_training=confusion(*training))
    seen = Pointer(1, "champion", SAME)
    measured = Measurements(digest, now, Score(now, 0.0), champion, None, seen, Pairs(0, 0))
    (rule,) = [r for r in gate.fn(measured, resolve(seed=0)).rules if r.name == "reference"]
    return not rule.passed


def honest_nights(
    champion: Champion, data: Dataset, sample: Labels, leaning: dict[int, Labels], seed: int
) -> Iterator[tuple[str, float, bool]]:
    """The kind of each night, by how much its accuracy fell, and whether it was rejected."""
    rng = np.random.default_rng(seed)
    labels, answers = data.test_labels, champion.answers
    training = (data.train_labels[sample], champion.on_sample)
    whole = (labels, answers)
    for _ in range(NIGHTS):
        again = answers_of(champion.classifier, data.test_images)
        yield "the same data", 0.0, rejects(whole, (labels, again), training, SAME)
        order = rng.permutation(len(labels))
        for name, record, night in (
            ("other 5,000 images", order[:5000], order[5000:]),
            ("other 1,000 images", order[:9000], order[9000:]),
        ):
            then, now = (labels[record], answers[record]), (labels[night], answers[night])
            yield name, fall(then, now), rejects(then, now, training)
        for degrees, slanted_answers in leaning.items():
            chosen = rng.random(len(labels)) < 0.2
            mixed = np.where(chosen, slanted_answers, answers)
            side = "left" if degrees > 0 else "right"
            kind = f"20 % slanted by {abs(degrees)} degrees to the {side}"
            yield kind, fall(whole, (labels, mixed)), rejects(whole, (labels, mixed), training)


def fall(then: tuple[Labels, Labels], now: tuple[Labels, Labels]) -> float:
    """By how much the share of right answers is smaller."""
    return float((then[0] == then[1]).mean() - (now[0] == now[1]).mean())


def changed_labels() -> Iterator[tuple[str, Callable[[Labels], Labels]]]:
    """The kind of each change, and what it makes of labels."""
    rng = np.random.default_rng(0)
    for shift in range(1, 10):
        yield "each label plus 1 to 9", lambda labels, s=shift: (labels + s) % 10
    for one, other in combinations(range(10), 2):
        yield "two labels exchanged", lambda labels, a=one, b=other: permuted({a: b, b: a})[labels]
    for _ in range(200):
        chosen = rng.choice(10, rng.integers(3, 11), replace=False)
        moved = dict(zip(chosen.tolist(), np.roll(chosen, 1).tolist(), strict=True))
        yield "3 to 10 labels in a circle", lambda labels, m=moved: permuted(m)[labels]
    for share in (0.7, 0.3, 0.1):
        for one, other in permutations(range(10), 2):

            def relabel(labels: Labels, a: int = one, b: int = other, p: float = share) -> Labels:
                chosen = np.random.default_rng(0).random(len(labels)) < p
                return np.where((labels == a) & chosen, b, labels)

            yield f"{share:.0%} of one digit labelled as another", relabel


def permuted(moved: dict[int, int]) -> Labels:
    """The label that each digit gets."""
    return np.array([moved.get(digit, digit) for digit in range(10)])


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=MNIST, help="the folder with MNIST's files")
    data = load.fn(str(parser.parse_args().data))
    sample = data.sample(OF_EACH_LABEL)
    leaning = {degrees: slanted(data.test_images, degrees) for degrees in SLANTS}
    nights: dict[str, list[tuple[float, bool]]] = {}
    found: dict[str, dict[str, list[bool]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, champion in enumerate(champions(data, sample, Path(folder))):
            right = int((champion.answers == data.test_labels).sum())
            print(f"{champion.name}: {right:,} of 10,000; labels plus 1:", end=" ")
            print(f"{int((champion.answers == (data.test_labels + 1) % 10).sum()):,}", flush=True)
            slants = {d: answers_of(champion.classifier, i) for d, i in leaning.items()}
            for kind, fell, rejected in honest_nights(champion, data, sample, slants, seed):
                nights.setdefault(kind, []).append((fell, rejected))
            for kind, where, rejected in missed_changes(champion, data, sample):
                found.setdefault(kind, {}).setdefault(where, []).append(rejected)
    print(f"\n{'honest nights':44}{'nights':>8}{'mean fall':>11}{'rejected':>10}")
    for kind, every in nights.items():
        fell = np.mean([one for one, _ in every])
        print(f"{kind:44}{len(every):8}{fell:11.4f}{sum(r for _, r in every):10}")
    print(f"\n{'labels that changed':44}{'in both':>16}{'in training':>16}{'in test':>16}")
    for kind, parts in found.items():
        cells = "".join(f"{f'{sum(r):,} of {len(r):,}':>16}" for r in parts.values())
        print(f"{kind:44}{cells}")


def missed_changes(
    champion: Champion, data: Dataset, sample: Labels
) -> Iterator[tuple[str, str, bool]]:
    """The kind of each change, where it was made, and whether it was rejected."""
    labels, sampled = data.test_labels, data.train_labels[sample]
    then, seen = (labels, champion.answers), champion.on_sample
    for kind, change in changed_labels():
        test, training = (change(labels), champion.answers), (change(sampled), seen)
        yield kind, "both", rejects(then, test, training)
        yield kind, "training", rejects(then, then, training, SAME)
        yield kind, "test", rejects(then, test, (sampled, seen))


if __name__ == "__main__":
    main()
