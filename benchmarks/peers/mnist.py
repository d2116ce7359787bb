"""MNIST for the other libraries, with NumPy only: each runs in its own environment."""

import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int32]


def read() -> tuple[Images, Labels, Images, Labels]:
    """Read training and test set from the folder given as the second argument.

    Returns:
        Twice: float32, shape (n, 784), in [0, 1]; int32, shape (n,), 0 to 9.
    """
    return (
        _read("train-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255,
        _read("train-labels-idx1-ubyte", 8).astype(np.int32),
        _read("t10k-images-idx3-ubyte", 16).reshape(-1, 784).astype(np.float32) / 255,
        _read("t10k-labels-idx1-ubyte", 8).astype(np.int32),
    )


def _read(name: str, header_bytes: int) -> NDArray[np.uint8]:
    path = Path(sys.argv[2], name)
    data = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
    return np.frombuffer(data, np.uint8, offset=header_bytes)
