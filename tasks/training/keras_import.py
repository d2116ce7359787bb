"""Import Keras while something else is waited for, and without its notes on the terminal."""

import gc
import os
import re
import sys
import threading
from collections.abc import Sequence

from storage.quiet import drop_stderr_lines

# https://github.com/tensorflow/tensorflow/issues/100442: they heed no setting.
NOTE = re.compile(rb"WARNING: All log messages before absl|I\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\]")


def import_keras_meanwhile(*, without: Sequence[str] = ()) -> None:
    """Begin to import Keras, and TensorFlow with it, in a thread: it takes 4 to 10 seconds.

    Args:
        without: Modules that Keras imports where they are installed, and does without where they
            are not. It stays without them, so only for a process that is ours alone.
    """
    if "keras" not in sys.modules:
        # Level 3 is for the notes that do heed a setting.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # Keras imports SciPy, and so does validate. Its modules import each other, and two threads
        # amid that have found one half imported: what validate needs is there before.
        import scipy.spatial.distance  # noqa: F401

        # No daemon: a program that ends meanwhile waits, or what it said last would be lost.
        threading.Thread(target=_import, args=[without], name="import-keras").start()


def _import(without: Sequence[str]) -> None:
    absent = [name for name in without if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # an import of None fails
    try:
        with drop_stderr_lines(NOTE):
            import keras  # noqa: F401
    finally:
        for name in absent:
            sys.modules.pop(name, None)
    # What the report draws with. While TensorFlow trains, an import costs nothing.
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401

    # Half a million objects that stay; TensorFlow's converter looks for garbage among all others.
    gc.freeze()
