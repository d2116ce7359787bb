import numpy as np
import pytest

from tasks.calibrate import best_temperature, calibrate, distorted
from tasks.scoring.statistics import calibration_error, loss_and_confusion
from tasks.stage import weights_digest


@pytest.fixture(scope="module")
def calibrated(trained):
    """The calibrated model of each trained network."""
    return calibrate.fn(trained.model, trained.training)


def test_calibration_changes_neither_an_answer_nor_a_weight(trained, calibrated) -> None:
    before = trained.model.predict(trained.test.inputs, verbose=0)
    after = calibrated.model.predict(trained.test.inputs, verbose=0)
    np.testing.assert_array_equal(after.argmax(axis=1), before.argmax(axis=1))
    powers = before.astype(np.float64) ** (1 / calibrated.temperature)
    np.testing.assert_allclose(after, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)
    assert weights_digest(calibrated.model) == weights_digest(trained.model)
    assert calibrated.columns() == {"temperature": calibrated.temperature}


def test_with_a_validation_part_the_temperature_is_found_on_it(mlp) -> None:
    held_out = np.arange(360) % 2 == 0
    calibrated = calibrate.fn(mlp.model, mlp.training, held_out)
    validation = mlp.training[held_out]
    predicted = mlp.model.predict(validation.inputs, verbose=0)
    assert calibrated.temperature == pytest.approx(best_temperature(predicted, validation.labels))
    columns = calibrated.columns()
    after = calibrated.model.predict(validation.inputs, verbose=0)
    assert columns["validation_loss"] == pytest.approx(
        loss_and_confusion(after, validation.labels).loss
    )
    assert columns["validation_total"] == 180


def test_the_same_network_and_images_give_the_same_temperature(trained, calibrated) -> None:
    assert calibrate.fn(trained.model, trained.training).temperature == calibrated.temperature


def test_the_temperature_makes_up_for_a_network_that_is_too_sure() -> None:
    random = np.random.default_rng(0)
    true = random.dirichlet(np.full(10, 0.1), 5000)
    labels = np.array([random.choice(10, p=row) for row in true])
    too_sure = true**1.6 / (true**1.6).sum(axis=1, keepdims=True)
    assert best_temperature(too_sure.astype(np.float32), labels) == pytest.approx(1.6, abs=0.1)
    assert best_temperature(np.full((1, 10), np.nan, np.float32), labels[:1]) == 1.0


def test_distorted_images_are_like_the_ones_given_and_always_the_same(trained) -> None:
    inputs = trained.test.inputs[:20]
    made = distorted(inputs)
    assert (made.dtype, made.shape) == (np.float32, (20, 784))
    assert made.min() >= 0
    assert made.max() <= 1
    np.testing.assert_array_equal(made, distorted(inputs))
    assert 0.01 < np.abs(made - inputs).mean() < 0.1


def test_the_calibration_error_is_that_of_a_loop_over_the_bins() -> None:
    random = np.random.default_rng(1)
    probabilities = random.dirichlet(np.full(10, 0.2), 400).astype(np.float32)
    labels = random.integers(0, 10, 400)
    total = 0.0
    for low in range(15):
        chosen = [
            (float(row.max()), row.argmax() == label)
            for row, label in zip(probabilities, labels, strict=True)
            if low / 15 <= row.max() < (low + 1) / 15 or (low == 14 and row.max() == 1)
        ]
        total += abs(sum(p for p, _ in chosen) - sum(right for _, right in chosen))
    assert calibration_error(probabilities, labels) == pytest.approx(total / 400)
    assert calibration_error(np.eye(10, dtype=np.float32), np.arange(10)) == 0
    probabilities[0, 0] = np.nan
    assert np.isnan(calibration_error(probabilities, labels))
    assert np.isnan(calibration_error(probabilities[:0], labels[:0]))
