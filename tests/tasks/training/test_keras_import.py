import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
from tasks.training.keras_import import import_keras_in_background

import_keras_in_background()
assert "scipy.spatial.distance" in sys.modules, "otherwise two threads import it at once"
(thread,) = [thread for thread in threading.enumerate() if thread.name == "import-keras"]
print("during the import", file=sys.stderr, flush=True)
thread.join()
assert "keras" in sys.modules

import keras
import numpy as np
keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).predict(np.zeros((3, 2)), verbose=0)
import_keras_in_background()
print("after the import", file=sys.stderr, flush=True)
"""


@pytest.mark.slow
def test_keras_is_imported_in_the_background_and_its_notes_are_kept_off_the_terminal(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["during the import", "after the import"]


@pytest.mark.slow
def test_a_run_does_not_import_opencv_while_keras_is_imported() -> None:
    """OpenCV's import changes ``sys.path`` for a moment, under whatever another thread imports."""
    program = "import sys, flows.retrain; print('cv2' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "False\n"
