"""The numbers that a network is trained with."""

from collections import Counter
from functools import cache
from pathlib import Path

import keras


@cache
def training_precision() -> str:
    """Keras' policy for convolutions: bfloat16 where the processor multiplies it itself.

    Elsewhere it is slower than float32. The weights are float32 in any case.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return "float32"
    return "mixed_bfloat16" if "avx512_bf16" in flags or "amx_bf16" in flags else "float32"


def precision_of(model: keras.Model) -> str:
    """What most of a model's layers are computed in, such as ``bfloat16``."""
    dtypes = Counter(str(layer.compute_dtype) for layer in model.layers if layer.weights)
    return dtypes.most_common(1)[0][0] if dtypes else "float32"
