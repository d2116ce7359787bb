"""How long commands take to start: ``python -m benchmarks.startup``.

Runs each command five times in a new process, in turns with the import of the libraries that it
needs, and prints the shortest time of each. `predict`, `history` and `champion` need a model
(`digits retrain --dataset mnist-5k`); without one they are listed as failed.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.training import PROJECT

DIGITS = str(Path(sys.executable).with_name("digits"))
PICTURE = str(PROJECT / "docs/images/seven.png")
NOTHING, DATABASE = "pass", "import sqlalchemy.dialects.sqlite, sqlalchemy.orm"
CLASSIFIER = "import numpy, PIL.Image, ai_edge_litert.interpreter"
COMMANDS = (
    (("--help",), NOTHING),
    (("champion",), NOTHING),
    (("history",), DATABASE),
    (("predict", PICTURE), CLASSIFIER),
)
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    print(f"{'command':<20}{'seconds':>9}{'of which imports':>19}")
    for arguments, libraries in COMMANDS:
        pairs = [
            (_seconds(DIGITS, *arguments), _seconds(sys.executable, "-c", libraries))
            for _ in range(ROUNDS)
        ]
        ours, imports = (min(seconds) for seconds in zip(*pairs, strict=True))
        print(f"digits {arguments[0]:<13}{ours:9.2f}{imports:19.2f}")


def _seconds(*command: str) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"expected exit code 0 of {' '.join(command)}, received:\n{done.stderr}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
