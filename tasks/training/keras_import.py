"""Import Keras in the background, with the settings that digits needs, and without its notes."""

import gc
import os
import re
import sys
import threading
from contextlib import nullcontext
from functools import cache
from pathlib import Path

from storage.errors import KerasError
from storage.quiet import drop_stderr_lines

# https://github.com/tensorflow/tensorflow/issues/100442: no setting silences them.
NOTE = re.compile(rb"WARNING: All log messages before absl|I\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\]")

# Whatever another project has set: Keras' backend, and Matplotlib's, which may not be installed.
NEEDED = {"KERAS_BACKEND": "tensorflow", "MPLBACKEND": "agg"}
# They would shorten the training, or change what a layer is; at a flag that it does not know, such
# as one of JAX, TensorFlow ends the process.
UNWANTED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED", "XLA_FLAGS")


@cache
def import_keras_in_background() -> threading.Thread:
    """Start to import Keras, and with it TensorFlow, in a thread: it takes 4 to 10 seconds."""
    # Level 3 is for the notes that a setting does silence.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(NEEDED)
    for name in UNWANTED:
        os.environ.pop(name, None)
    # Keras imports SciPy, and so does validate. SciPy's modules import each other, and two
    # threads doing so have met half-imported ones: import what validate needs first.
    import scipy.spatial.distance  # noqa: F401

    # Not a daemon: at exit Python waits for it, so its last output is not lost.
    thread = threading.Thread(target=_import, name="import-keras")
    thread.start()
    return thread


def wait_for_keras() -> None:
    """Return once the background import has ended; start it if that has not happened.

    Raises:
        KerasError: If Keras cannot be imported, or was imported earlier with another backend.
    """
    import_keras_in_background().join()
    try:
        import keras
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(": ")
        raise KerasError(
            f"expected to import Keras, received {reason}; check {_settings_file()} and the"
            " installed packages"
        ) from error
    if keras.config.backend() != "tensorflow":
        raise KerasError(
            f"expected Keras on TensorFlow, received Keras on {keras.config.backend()}; unset"
            " KERAS_BACKEND where Keras is imported first"
        )


def _import() -> None:
    first = "keras" not in sys.modules
    try:
        with drop_stderr_lines(NOTE) if first else nullcontext():
            import keras
    except Exception:  # noqa: BLE001 - wait_for_keras meets it again, and reports it
        return
    # Instead of what another project left in keras.json.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    if first:
        # The report draws with it. While TensorFlow trains, importing it costs nothing.
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401

        # Half a million objects that stay; the converter of TensorFlow collects garbage among
        # all others.
        gc.freeze()


def _settings_file() -> Path:
    return Path(os.environ.get("KERAS_HOME") or Path("~", ".keras")) / "keras.json"
