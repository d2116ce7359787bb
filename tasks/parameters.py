"""The flow's parameters with their bounds, as the form in the Prefect UI shows them."""

from typing import Annotated, Literal

from pydantic import Field

from storage.records import (
    BATCH_SIZE,
    CORRECTIONS_SHARE,
    EPOCHS,
    LEARNING_RATE,
    MARGIN,
    NAME_PATTERN,
    SEED,
)

Architecture = Literal["mlp", "cnn"]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Epochs = Annotated[int, Field(ge=EPOCHS.low, le=EPOCHS.high)]
BatchSize = Annotated[int, Field(ge=BATCH_SIZE.low, le=BATCH_SIZE.high)]
LearningRate = Annotated[float, Field(ge=LEARNING_RATE.low, le=LEARNING_RATE.high)]
Seed = Annotated[int, Field(ge=SEED.low, le=SEED.high)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
CorrectionsShare = Annotated[
    float, Field(ge=CORRECTIONS_SHARE.low, le=CORRECTIONS_SHARE.high, allow_inf_nan=False)
]
ChampionRule = Literal["not-worse", "better", "non-inferior"]
Margin = Annotated[int, Field(ge=MARGIN.low, le=MARGIN.high)]
