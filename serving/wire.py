"""What goes over HTTP, as OpenAPI describes it."""

from typing import Annotated

from pydantic import BaseModel, Field, Strict
from pydantic.types import StringConstraints

MAX_BATCH = 256

Pixel = Annotated[int, Strict(), Field(ge=0, le=255)]
Row = Annotated[list[Pixel], Field(min_length=28, max_length=28, fail_fast=True)]
Image = Annotated[list[Row], Field(min_length=28, max_length=28, fail_fast=True)]
Digit = Annotated[int, Strict(), Field(ge=0, le=9)]


class Images(BaseModel):
    """One or many images as MNIST has them."""

    images: list[Image] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        fail_fast=True,
        description="28 rows of 28 grey levels each; 0 is paper, 255 is ink. Taken as they are.",
    )


class Prediction(BaseModel):
    """What the model says to an image."""

    digit: int
    probability: float = Field(description="Of the digit, from 0 to 1.")
    runner_up: int
    runner_up_probability: float
    probabilities: list[float] = Field(description="Of each digit, 0 to 9; they add up to 1.")
    image: list[list[int]] | None = Field(
        None, description="The 28 x 28 that the model saw, where an image file was sent."
    )


class Predictions(BaseModel):
    """The answer, and which version gave it."""

    version: str
    predictions: list[Prediction]


class Correction(BaseModel):
    """What a person says that an image shows."""

    image: Image = Field(description="The 28 x 28 that the model saw.")
    label: Digit
    actor: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Who says so; empty means the address that it comes from."
    )


class Kept(BaseModel):
    """A correction that was kept."""

    digest: str = Field(description="SHA-256 of the image, by which it is known.")
    label: int
    predicted: int
    version: str


class InUse(BaseModel):
    """The model that answers."""

    dataset: str
    version: str
    generation: int
    test_correct: int | None
    test_total: int | None
    refused: str | None = Field(
        description="Why the model that the pointer names does not answer; null if it does."
    )


class Health(BaseModel):
    """A sign of life."""

    status: str
    version: str


class Said(BaseModel):
    """What was wrong, in one line."""

    detail: str
