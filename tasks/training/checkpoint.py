"""Checkpoint: the state of an unfinished training, from which a retried run goes on.

It lies in the run's home, not in the model store: it is of use on this machine alone.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from storage.models.files import make_folder, replace
from storage.provenance import Provenance
from storage.recipe import CHAMPIONS, Recipe
from tasks.data.dataset import digest
from tasks.preprocess import Examples

if TYPE_CHECKING:
    import keras

# Older checkpoints are deleted.
KEPT_S = 7 * 24 * 3600
# Between two checkpoints: a short training needs none.
EVERY_S = 10
LEARNING = (*CHAMPIONS, "seed")
FILE = "training.npz"

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of one training is kept: the same place for the same recipe, data and code.

    Args:
        home: The folder of what runs leave; checkpoints are in ``checkpoints`` below it.
        recipe: What is trained.
        examples: What it is trained on.
        provenance: The code, the libraries and the flow run that train it.
    """

    home: Path
    recipe: Recipe
    examples: Examples
    provenance: Provenance

    def save(self, model: keras.Model, epochs: Sequence[dict[str, Any]]) -> None:
        """Write the state after some epochs; a failure is a warning, and the training goes on."""
        about = {
            "recipe": {name: getattr(self.recipe, name) for name in LEARNING},
            "flow_run_id": self.provenance.flow_run_id,
            "epochs": epochs,
        }
        file = io.BytesIO()
        np.savez(file, *map(np.asarray, _variables(model)), about=json.dumps(about))
        try:
            _forget_old(self.home)
            make_folder(self._own)
            replace(self._own / FILE, file.getvalue())
        except OSError as error:
            log.warning("no checkpoint was written, the training goes on: %s", error)

    def restore(self, model: keras.Model) -> list[dict[str, Any]]:
        """Give the model the state that was saved, if there is one that fits.

        Returns:
            The epochs already trained; empty if no checkpoint fits.
        """
        if not any(self.home.glob("checkpoints/*")) or not (found := _read(self._own / FILE)):
            return []
        about, arrays = found
        variables = _variables(model)
        kinds = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
        if [(array.shape, str(array.dtype)) for array in arrays] != kinds:
            log.warning("the checkpoint is of another network: the training begins anew")
            return []
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        epochs: list[dict[str, Any]] = about["epochs"]
        log.info("the training goes on after epoch %d of %d", len(epochs), self.recipe.epochs)
        return epochs

    def remove(self) -> None:
        """Remove the state when it is no longer needed, and others of the same flow run."""
        shutil.rmtree(self._own, ignore_errors=True)
        for path, _ in _of_flow_run(self.home, self.provenance.flow_run_id):
            shutil.rmtree(path.parent, ignore_errors=True)

    @cached_property
    def _own(self) -> Path:
        code = self.provenance.code_commit, self.provenance.code_dirty, self.provenance.versions
        learning = [getattr(self.recipe, name) for name in ("name", *LEARNING)]
        texts = json.dumps([learning, code]), _source_of(self.recipe.architecture)
        key = digest(self.examples.pixels, self.examples.labels, *map(np.array, texts))
        return self.home / "checkpoints" / key[:32]


def interrupted(home: Path, flow_run_id: str | None) -> dict[str, Any]:
    """The parameters of a training that this very flow run has begun; none if it has not."""
    for _, about in _of_flow_run(home, flow_run_id):
        return {**about["recipe"], "max_minutes": 0}
    return {}


def _of_flow_run(home: Path, flow_run_id: str | None) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in home.glob(f"checkpoints/*/{FILE}"):
        found = _read(path)
        if found and flow_run_id and found[0]["flow_run_id"] == flow_run_id:
            yield path, found[0]


def _read(path: Path) -> tuple[dict[str, Any], list[Any]] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            return about, [file[name] for name in file if name != "about"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        log.warning("the checkpoint %s cannot be read: %s", path, error)
        return None


def _variables(model: keras.Model) -> list[Any]:
    """The weights, the states of dropout, and those of the optimizer."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _source_of(architecture: str) -> str:
    """The source of a user's network; the others are part of our code."""
    module, colon, _ = architecture.partition(":")
    file = import_module(module).__file__ if colon else None
    return Path(file).read_text(encoding="utf-8") if file else ""


def _forget_old(home: Path) -> None:
    for folder in home.glob("checkpoints/*"):
        with suppress(OSError):  # another run may do the same
            if folder.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(folder)
