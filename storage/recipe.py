"""The recipe of a run: every parameter is declared here, once.

From these declarations come the checks, the options of ``digits retrain``, and the bounds and
descriptions in Prefect's form. A new parameter needs its type and field here, one line in the
flow's signature, and a column.

Pydantic makes the form from the types, but is not imported here: the checks below answer in one
line each, and a command that only looks at a recipe need not wait for it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from annotated_types import Interval

from storage.errors import InvalidParameterError

T = TypeVar("T")


@dataclass(frozen=True)
class Help:
    """One line about a parameter, for ``--help`` and Prefect's form."""

    text: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        """Add the line to the form."""
        return handler(schema) | {"description": self.text}


@dataclass(frozen=True)
class Pattern:
    """What the whole of a text must match, the same in words, and advice if it does not."""

    regex: str
    expected: str
    advice: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Add the pattern to the form."""
        return handler(source) | {"pattern": self.regex}


@dataclass(frozen=True)
class _OrDefault:
    note: str = ""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        """Describe the parameter, not only one of the two types that it may have."""
        made = handler(schema)
        return made | {"description": made["anyOf"][0].pop("description") + self.note}


OrDefault = Annotated[T | None, _OrDefault()]
"""An optional parameter: ``tasks.data.sources.resolve`` fills it in."""

OrChampions = Annotated[T | None, _OrDefault(" Empty: as the champion's.")]
"""An optional parameter: ``tasks.data.sources.resolve_night`` takes it from the champion."""

CHAMPIONS = ("architecture", "epochs", "batch_size", "learning_rate")
"""What a nightly run takes from the champion unless it is given: what decides how it learns."""


@dataclass(frozen=True)
class DatasetDefaults:
    """What a run on a dataset requires unless the recipe says otherwise."""

    min_accuracy: float = 0.97
    min_recall: float = 0.8


DATASETS = {
    # The seed network reaches 97.9 to 98.5 % on MNIST and 93 to 94 % on mnist-5k, whose 100 test
    # images of each digit leave the worst recall below 0.80 now and then, by chance alone.
    "mnist": DatasetDefaults(),
    "mnist-5k": DatasetDefaults(min_accuracy=0.9, min_recall=0.7),
}
"""The datasets that have a name; a folder has the defaults of ``DatasetDefaults``."""

DATASET_CHOICES = f"{', '.join(DATASETS)} or a folder with MNIST's four IDX files"


Network = Literal["mlp", "cnn", "convnet", "convnet-deep"]
"""The architectures that come with digits."""


@dataclass(frozen=True)
class ArchitectureDefaults:
    """How an architecture is trained unless the recipe says otherwise."""

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.001


ARCHITECTURES: dict[str, ArchitectureDefaults] = {
    "mlp": ArchitectureDefaults(),
    "cnn": ArchitectureDefaults(),
    "convnet": ArchitectureDefaults(epochs=13, learning_rate=0.004),
    "convnet-deep": ArchitectureDefaults(epochs=38, learning_rate=0.003),
}
"""One for each network; a user's own has the defaults of ``ArchitectureDefaults``."""

DEEP_FROM_MINUTES = 8
"""The minutes for its training from which ``convnet`` becomes ``convnet-deep``."""


def _own(parameter: str, table: Mapping[str, DatasetDefaults | ArchitectureDefaults]) -> str:
    """What a parameter is by default, for the help."""
    own = {name: getattr(defaults, parameter) for name, defaults in table.items()}
    usual, *_ = own.values()
    others = ", ".join(f"{name} {value}" for name, value in own.items() if value != usual)
    return f"default: {usual}" + (f", for {others}" if others else "")


Dataset = Annotated[str, Help(f"What to load: {DATASET_CHOICES} (plain or .gz).")]
Name = Annotated[
    str,
    Pattern(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        "a letter or digit, then up to 63 letters, digits, '.', '_' or '-'",
        "choose one with --name",
    ),
    Help("Name for the runs and champions; default: the dataset's name."),
]
Architecture = Annotated[
    str,
    Pattern(
        rf"^({'|'.join(get_args(Network))}|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)$",
        f"{', '.join(get_args(Network))} or package.module:function",
        "such a function takes the recipe and returns a compiled Keras model",
    ),
    Help(
        "The network: mlp (Dense 512), cnn (two convolutions), convnet (six, with augmentation),"
        " convnet-deep (eight), or package.module:function, your own function that takes the recipe"
        " and returns a compiled Keras model."
    ),
]
Epochs = Annotated[
    int,
    Interval(ge=1, le=1000),
    Help(f"Passes over the training images; {_own('epochs', ARCHITECTURES)}."),
]
BatchSize = Annotated[
    int,
    Interval(ge=1, le=65536),
    Help(f"Images per step of the optimizer; {_own('batch_size', ARCHITECTURES)}."),
]
LearningRate = Annotated[
    float,
    Interval(ge=1e-6, le=1),
    Help(f"Step size of the optimizer, at its peak; {_own('learning_rate', ARCHITECTURES)}."),
]
MaxMinutes = Annotated[
    float,
    Interval(ge=0, le=10_000),
    Help(
        "Minutes for the training, instead of epochs: a few steps are timed, and the number of"
        f" epochs follows. From {DEEP_FROM_MINUTES} minutes, convnet becomes convnet-deep. 0 means"
        " no limit."
    ),
]
Seed = Annotated[
    int,
    Interval(ge=0, le=2**32 - 1),
    Help("Sets the initial weights and the order of the images; random by default."),
]
MinAccuracy = Annotated[
    float,
    Interval(ge=0, le=1),
    Help(f"Share of the test images that must be correct; {_own('min_accuracy', DATASETS)}."),
]
Confident = Annotated[
    bool, Help("Require the lower bound of the accuracy's 95% interval to reach it too.")
]
MinRecall = Annotated[
    float,
    Interval(ge=0, le=1),
    Help(f"Share of each digit's test images that must be found; {_own('min_recall', DATASETS)}."),
]
ChampionRule = Annotated[
    Literal["not-worse", "better", "non-inferior"],
    Help("How the challenger must compare with the champion on the same images."),
]
Margin = Annotated[
    int,
    Interval(ge=0, le=100_000),
    Help("How many test images a non-inferior challenger may fall short of the best champion."),
]
Robust = Annotated[
    bool,
    Help(
        "Require at most 1 point less than the champion on each transformation of the test images"
        " (moved, turned, thin and so on) of which it has 97% right."
    ),
]
MaxDrift = Annotated[
    float,
    Interval(ge=0, le=1),
    Help("Largest Jensen-Shannon distance of the training data from the champion's."),
]
AcceptChange = Annotated[
    bool,
    Help(
        "Accept, for this run, that the champion does far worse on the data than when it was"
        " promoted: the change of images or labels is meant."
    ),
]
Corrections = Annotated[bool, Help("Train on people's corrections.")]
CorrectionsShare = Annotated[
    float,
    Interval(ge=0, le=0.5),
    Help("Largest share of an epoch's images that may be corrections."),
]

MaxHours = Annotated[
    float,
    Interval(ge=0.001, le=168),
    Help("Hours until the run ends as failed; a step other than training may take a quarter."),
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what a run does; ``tasks.data.sources.resolve`` fills it in.

    Raises:
        InvalidParameterError: If a value is not what its declaration allows.
    """

    dataset: Dataset = "mnist"
    name: Name
    architecture: Architecture = "mlp"
    epochs: Epochs
    max_minutes: MaxMinutes = 0
    batch_size: BatchSize
    learning_rate: LearningRate
    seed: Seed
    min_accuracy: MinAccuracy
    confident: Confident = False
    min_recall: MinRecall
    champion_rule: ChampionRule = "not-worse"
    margin: Margin = 0
    robust: Robust = False
    max_drift: MaxDrift = 0.2
    accept_change: AcceptChange = False
    corrections: Corrections = False
    corrections_share: CorrectionsShare = 0.1
    max_hours: MaxHours = 8

    def __post_init__(self) -> None:
        for parameter in parameters():
            parameter.check(getattr(self, parameter.name))
        if self.margin and self.champion_rule != "non-inferior":
            raise InvalidParameterError(
                f"margin: expected 0 with the champion rule {self.champion_rule},"
                f" received {self.margin}; only non-inferior has a margin"
            )
        if self.max_minutes >= 60 * self.max_hours:
            raise InvalidParameterError(
                f"max_minutes: expected less than max_hours ({self.max_hours:g} h), received"
                f" {self.max_minutes:g}; raise max_hours"
            )

    def columns(self) -> dict[str, Any]:
        """The columns of ``runs`` that it fills, and what the manifest says about it."""
        return {COLUMNS.get(name, name): value for name, value in vars(self).items()}


# The columns keep the names that the first release gave them.
COLUMNS = {"dataset": "source", "name": "dataset"}


# When a run is repeated with another value on the left, its values on the right do not apply.
DEPENDENT = {
    "architecture": {"epochs", "batch_size", "learning_rate"},
    "dataset": {"name", "min_accuracy", "min_recall"},
    "champion_rule": {"margin"},
    "max_minutes": {"epochs"},
}
# What holds for one run only: a person's word, and a time that became a number of epochs.
OF_ONE_RUN = {"accept_change", "max_minutes"}


def parameters_of(row: Mapping[str, Any], replaced: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The parameters of an earlier run, as far as its release knew them.

    Args:
        row: The columns of the run.
        replaced: Parameters to leave out, with those that depend on them.
    """
    left_out = replaced.union(
        OF_ONE_RUN, *(DEPENDENT[name] for name in replaced & DEPENDENT.keys())
    )
    values = {p.name: row.get(COLUMNS.get(p.name, p.name)) for p in parameters()}
    return {k: v for k, v in values.items() if v is not None and k not in left_out}


@dataclass(frozen=True)
class Parameter:
    """What the declaration of a field of ``Recipe`` says.

    Args:
        kind: ``str``, ``int``, ``float`` or ``bool``.
        default: None if it is filled in from the dataset, or drawn.
        choices: All values that it may have; empty where there are others.
        bounds: The smallest and largest number, both allowed.
    """

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...]
    bounds: tuple[float, float] | None
    pattern: Pattern | None

    @property
    def expected(self) -> str:
        """What it accepts, in words."""
        if self.bounds:
            low, high = self.bounds
            return f"a {'whole ' if self.kind is int else ''}number from {low:g} to {high}"
        if self.pattern:
            return self.pattern.expected
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return "true or false" if self.kind is bool else "text"

    def allows(self, value: Any) -> bool:
        """Whether it accepts a value; NaN never."""
        if not issubclass(type(value), (int, float) if self.kind is float else self.kind):
            return False
        if self.bounds:
            return bool(self.bounds[0] <= value <= self.bounds[1])
        if self.pattern:
            return bool(re.fullmatch(self.pattern.regex, value))
        return value in self.choices or not self.choices

    def check(self, value: Any) -> None:
        """Raise InvalidParameterError unless it accepts the value."""
        if not self.allows(value):
            advice = f"; {self.pattern.advice}" if self.pattern else ""
            raise InvalidParameterError(
                f"{self.name}: expected {self.expected}, received {value!r}{advice}"
            )


@cache
def parameters() -> tuple[Parameter, ...]:
    """The fields of ``Recipe``, in order."""
    return tuple(_parameter(field) for field in fields(Recipe))


def _parameter(field: Field[Any]) -> Parameter:
    kind, *marks = get_args(field.type)
    found: dict[type, Any] = {type(mark): mark for mark in marks}
    interval = found.get(Interval)
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Parameter(
        name=field.name,
        kind=str if choices else kind,
        default=None if field.default is MISSING else field.default,
        help=found[Help].text,
        choices=choices,
        bounds=(interval.ge, interval.le) if interval else None,
        pattern=found.get(Pattern),
    )
