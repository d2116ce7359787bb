"""The seed recipe in other libraries, each in its own environment: see ``PEERS``."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[1] / ".bench"


@dataclass(frozen=True)
class Peer:
    """One implementation of the seed recipe.

    Args:
        script: Takes a seed and a dataset, prints JSON with fit_s and accuracy.
        packages: What its environment holds; peers with the same share it.
        options: What the script is called with besides.
        variables: Environment variables that it is called with.
    """

    script: Path
    packages: tuple[str, ...]
    options: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


JAX = ("jax==0.10.2", "keras==3.15.1")
TORCH = ("torch==2.13.0", "numpy")
PEERS = {
    "Keras on JAX": Peer(HERE.parent / "plain_keras.py", JAX, variables={"KERAS_BACKEND": "jax"}),
    "JAX scan": Peer(HERE / "jax_scan.py", JAX),
    "PyTorch": Peer(HERE / "torch_mlp.py", TORCH),
    "PyTorch compiled": Peer(
        HERE / "torch_mlp.py", TORCH, ("--compile",),
        {"TORCHINDUCTOR_CACHE_DIR": str(ENVIRONMENTS / "inductor")},
    ),
    "scikit-learn": Peer(HERE / "sklearn_mlp.py", ("scikit-learn==1.9.1",)),
}  # fmt: skip


@cache
def python_of(packages: tuple[str, ...]) -> Path | str:
    """The Python of an environment, created on first use; or the reason why there is none."""
    name = packages[0].partition("=")[0]
    folder = ENVIRONMENTS / name
    python, done = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join(packages)
    if shutil.which(python) and done.exists() and done.read_text() == wanted:
        return python
    print(f"installing {', '.join(packages)} into {folder}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    # uv can select PyTorch's builds without CUDA; pip cannot.
    uv = shutil.which("uv") or str(HERE.parents[1] / ".venv" / "uv")
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
        by_uv = [uv, "pip", "install", "--quiet", "--python", python, "--torch-backend", "cpu"]
        tried = shutil.which(uv) and subprocess.run(
            [*by_uv, *packages], check=False, capture_output=True
        )
        if not tried or tried.returncode != 0:
            by_pip = [python, "-m", "pip", "install", "--quiet", *packages]
            subprocess.run(by_pip, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        return f"could not be installed: {said.rpartition(chr(10))[2] or error}"
    done.write_text(wanted)
    return python
