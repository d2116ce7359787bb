"""The clock of the recipes of ``benchmarks.time_to_accuracy``, for any environment."""

import json
import time
from collections.abc import Callable

ENOUGH = 0.995


class Clock:
    """Runs while a network is trained, from its making on; stands still while it is evaluated."""

    def __init__(self) -> None:
        self._seconds, self._processor = time.perf_counter(), time.process_time()

    def epoch(self, evaluate: Callable[[], float]) -> bool:
        """Print the seconds and processor seconds so far, and the accuracy, as JSON.

        Args:
            evaluate: The share of the test images that are right.

        Returns:
            Whether it is enough.
        """
        seconds = time.perf_counter() - self._seconds
        processor = time.process_time() - self._processor
        accuracy = evaluate()
        print(json.dumps([seconds, processor, accuracy]), flush=True)
        self._seconds = time.perf_counter() - seconds
        self._processor = time.process_time() - processor
        return accuracy >= ENOUGH
