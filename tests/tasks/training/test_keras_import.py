import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
from tasks.training.keras_import import import_keras_meanwhile

import_keras_meanwhile(without=["pandas", "sklearn"])
assert "scipy.spatial.distance" in sys.modules, "two threads would import it at once"
(thread,) = [thread for thread in threading.enumerate() if thread.name == "import-keras"]
print("said meanwhile", file=sys.stderr, flush=True)
thread.join()
assert "keras" in sys.modules
assert not {"pandas", "sklearn"} & set(sys.modules)

import keras, pandas, sklearn
import numpy as np
keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).predict(np.zeros((3, 2)), verbose=0)
import_keras_meanwhile()
print("said later", file=sys.stderr, flush=True)
"""


@pytest.mark.slow
def test_keras_is_imported_meanwhile_and_its_notes_are_kept_from_the_terminal(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["said meanwhile", "said later"]
