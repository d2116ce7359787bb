"""Request and response bodies of the HTTP API."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic.types import StringConstraints

MAX_BATCH = 256

Pixel = Annotated[int, Strict(), Field(ge=0, le=255)]
Row = Annotated[list[Pixel], Field(min_length=28, max_length=28, fail_fast=True)]
Image = Annotated[list[Row], Field(min_length=28, max_length=28, fail_fast=True)]
Digit = Annotated[int, Strict(), Field(ge=0, le=9)]


class Images(BaseModel):
    """One or more images in MNIST's form."""

    images: list[Image] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        fail_fast=True,
        description="28 rows of 28 grey levels each; 0 is paper, 255 is ink. Used unchanged.",
    )


class Box(BaseModel):
    """Where a digit is, in pixels of the picture as a viewer shows it."""

    left: int
    top: int
    width: int
    height: int


class Prediction(BaseModel):
    """The prediction for one digit."""

    digit: int
    probability: float = Field(description="Probability of the digit, 0 to 1.")
    runner_up: int
    runner_up_probability: float
    probabilities: list[float] = Field(description="Probability of each digit, 0 to 9; sum 1.")
    unsure: bool = Field(description="Whether this may not be a digit.")
    box: Box | None = Field(None, description="Where the digit is, if an image file was sent.")
    image: list[list[int]] | None = Field(
        None, description="The 28 x 28 pixels given to the model, if an image file was sent."
    )


class Predictions(BaseModel):
    """Predictions, and the version that made them."""

    version: str
    text: str | None = Field(
        None, description="The number that the digits of an image file form, from left to right."
    )
    predictions: list[Prediction]


class Correction(BaseModel):
    """The right digit for an image, or that it shows none."""

    image: Image = Field(description="The 28 x 28 pixels given to the model.")
    label: Digit | None = Field(description="The right digit; null if it is not a digit.")
    actor: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Name recorded as the author; defaults to the client's address."
    )


class StoredCorrection(BaseModel):
    """A correction as stored."""

    model_config = ConfigDict(from_attributes=True)

    digest: str = Field(description="SHA-256 of the image; identifies the correction.")
    label: int | None
    predicted: int | None
    version: str | None
    state: str = Field(
        description="kept, held (until a person accepts it), measured (never trained on), learnt"
        " or revoked."
    )
    held_why: str | None = Field(description="Why it is held; null if it never was.")
    learnt_by: str | None = Field(
        description="The first promoted version trained on it; null if none was."
    )


class ChampionInfo(BaseModel):
    """The model that is serving."""

    dataset: str
    version: str
    generation: int
    test_correct: int | None
    test_total: int | None
    refused: str | None = Field(description="Why the promoted model is not serving; null if it is.")


class ErrorDetail(BaseModel):
    """What went wrong, in one line."""

    detail: str
