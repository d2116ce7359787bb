"""Checkpoint: the state of an unfinished training, so that a repetition of the run goes on from it.

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
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from storage.models.files import make_folder, replace
from storage.recipe import CHAMPIONS, Recipe
from tasks.data.dataset import digest
from tasks.preprocess import Examples

if TYPE_CHECKING:
    import keras

# Then an interrupted training that was not repeated is forgotten.
KEPT_S = 7 * 24 * 3600
# Between two checkpoints: a short training needs none.
EVERY_S = 10
LEARNING = (*CHAMPIONS, "seed")
FILE = "training.npz"

log = logging.getLogger("digits")


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of one training is kept; the same recipe and data have the same place.

    Args:
        home: The folder of what runs leave; checkpoints are in ``checkpoints`` below it.
        recipe: What is trained.
        examples: What it is trained on.
        flow_run_id: The flow run that trains it.
    """

    home: Path
    recipe: Recipe
    examples: Examples
    flow_run_id: str | None

    def save(self, model: keras.Model, epochs: Sequence[dict[str, Any]]) -> None:
        """Write the state after some epochs; a failure is a warning, and the training goes on."""
        about = {
            "recipe": {name: getattr(self.recipe, name) for name in LEARNING},
            "flow_run_id": self.flow_run_id,
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
            The epochs that the model has behind it; none without such a state.
        """
        if not any(_files(self.home)) or (found := _read(self._own / FILE)) is None:
            return []
        about, arrays = found
        variables = _variables(model)
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            log.warning("the checkpoint is of another release: the training begins anew")
            return []
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        epochs: list[dict[str, Any]] = about["epochs"]
        log.info("the training goes on after epoch %d of %d", len(epochs), self.recipe.epochs)
        return epochs

    def remove(self) -> None:
        """Remove the state once it is of no use any more."""
        with suppress(OSError):
            shutil.rmtree(self._own)

    @cached_property
    def _own(self) -> Path:
        learning = json.dumps([self.recipe.name, *(getattr(self.recipe, n) for n in LEARNING)])
        data = digest(self.examples.pixels, self.examples.labels, np.array(learning))
        return self.home / "checkpoints" / data[:32]


def interrupted(home: Path, flow_run_id: str | None) -> dict[str, Any]:
    """The parameters of a training that this very flow run has begun; none if it has not."""
    for path in _files(home):
        found = _read(path)
        if found and flow_run_id and found[0]["flow_run_id"] == flow_run_id:
            return {**found[0]["recipe"], "max_minutes": 0}
    return {}


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


def _files(home: Path) -> Iterator[Path]:
    return home.glob(f"checkpoints/*/{FILE}")


def _forget_old(home: Path) -> None:
    for path in _files(home):
        if path.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(path.parent, ignore_errors=True)
