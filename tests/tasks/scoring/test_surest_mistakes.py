import numpy as np

from tasks.scoring.values import Mistake
from tasks.scoring.worker import surest_mistakes


def test_the_surest_mistakes_come_first_and_correct_answers_are_left_out() -> None:
    probabilities = np.full((4, 10), 0.01, np.float32)
    labels = np.array([3, 5, 7, 9])
    for row, (answer, sure) in enumerate([(3, 0.99), (1, 0.6), (2, 0.9), (0, 0.7)]):
        probabilities[row, answer] = sure
    found = surest_mistakes(probabilities, labels, 2)
    assert found == (
        Mistake(2, 7, 2, float(np.float32(0.9))),
        Mistake(3, 9, 0, float(np.float32(0.7))),
    )
    assert surest_mistakes(probabilities[:1], labels[:1], 2) == ()
