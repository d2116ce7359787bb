import math
from dataclasses import replace

import numpy as np
import pytest

from storage.records import Evaluation
from tasks.build import build
from tasks.evaluate import evaluate
from tasks.gate import gate
from tasks.scoring.values import Measurements, Score


def test_a_network_has_learnt_something_from_a_few_digits(trained) -> None:
    first, *_, last = trained.curve.epochs
    assert len(trained.curve.epochs) == trained.recipe.epochs
    assert last.loss < first.loss
    assert last.accuracy > first.accuracy
    assert trained.evaluation.correct > 500  # of 1,000; guessing gives 100


def test_the_counts_are_those_of_the_networks_own_answers(trained) -> None:
    answers = trained.model.predict(trained.test.inputs, batch_size=7, verbose=0).argmax(axis=1)
    confusion = [[0] * 10 for _ in range(10)]
    for true, said in zip(trained.dataset.test_labels.tolist(), answers.tolist(), strict=True):
        confusion[true][said] += 1
    assert trained.evaluation.confusion == tuple(map(tuple, confusion))
    assert trained.evaluation.correct == int((answers == trained.dataset.test_labels).sum())
    assert trained.evaluation.total == 1000
    # Plain integers, which JSON and a database take.
    assert {type(count) for row in trained.evaluation.confusion for count in row} == {int}


def test_the_loss_is_the_mean_cross_entropy_and_what_keras_says(trained) -> None:
    probabilities = trained.model.predict(trained.test.inputs, verbose=0).astype(np.float64)
    of_the_true_digit = probabilities[np.arange(1000), trained.dataset.test_labels]
    expected = -np.log(np.maximum(of_the_true_digit, 1e-7)).mean()
    assert trained.evaluation.loss == pytest.approx(expected, rel=1e-5)
    theirs, _ = trained.model.evaluate(trained.test.inputs, trained.test.targets, verbose=0)
    assert trained.evaluation.loss == pytest.approx(theirs, rel=1e-4)


def test_a_network_that_answers_nan_is_measured_and_rejected(trained) -> None:
    model = build.fn(trained.recipe)
    model.set_weights([np.full_like(weight, math.nan) for weight in model.get_weights()])
    evaluation: Evaluation = evaluate.fn(model, trained.test)
    assert evaluation.total == 1000
    assert not math.isfinite(evaluation.loss)
    assert evaluation.finite_loss is None
    recipe = replace(trained.recipe, min_accuracy=0.0, min_recall=0.0)
    found = Measurements("cd" * 32, evaluation, Score(evaluation, 0.0))
    assert not gate.fn(found, recipe).accepted
