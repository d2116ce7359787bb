"""Import Keras in the background, and without its notes on the terminal."""

import gc
import os
import re
import sys
import threading
from functools import cache

from storage.quiet import drop_stderr_lines

# https://github.com/tensorflow/tensorflow/issues/100442: no setting silences them.
NOTE = re.compile(rb"WARNING: All log messages before absl|I\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\]")


@cache
def import_keras_in_background() -> threading.Thread:
    """Start to import Keras, and with it TensorFlow, in a thread: it takes 4 to 10 seconds."""
    # Level 3 is for the notes that a setting does silence.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Keras imports SciPy, and so does validate. SciPy's modules import each other, and two
    # threads doing so have met half-imported ones: import what validate needs first.
    import scipy.spatial.distance  # noqa: F401

    # Not a daemon: at exit Python waits for it, so its last output is not lost.
    thread = threading.Thread(target=_import, name="import-keras")
    thread.start()
    return thread


def wait_for_keras() -> None:
    """Return once the background import has ended; start it if that has not happened."""
    import_keras_in_background().join()


def _import() -> None:
    if "keras" in sys.modules:
        return
    with drop_stderr_lines(NOTE):
        import keras  # noqa: F401
    # The report draws with it. While TensorFlow trains, importing it costs nothing.
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    # Half a million objects that stay; TensorFlow's converter collects garbage among all others.
    gc.freeze()
