"""Every error that a user can cause or meet, as one tree.

DigitsError                   exit code 1 unless stated
├── InvalidParameterError     a value of the recipe or an option is out of bounds (exit code 2)
├── DatasetNotFoundError      no dataset of this name, no such folder, a file missing (exit code 2)
├── DatasetUnavailableError   MNIST could not be downloaded, or files change just now
├── InvalidDataError          the files or arrays are not what the network expects
├── TrainingDivergedError     a loss or weight is not finite
├── DatabaseError             the metrics table cannot be opened, read or written
├── RunNotFoundError          no row for this run
├── RunClosedError            the row has reached its terminal status already
├── ModelStoreError           the model store cannot be read or written
│   ├── DamagedModelError     a file of a version is not what its digest says
│   ├── DamagedStateError     the pointer or the history is damaged or missing
│   └── VersionNotFoundError  no champion yet, or no such version to roll back to
├── CorrectionNotFoundError   no such correction, or more than one
├── ImageError                an image that cannot be read, or without a digit on it
├── ServeError                the address cannot be listened on
└── ServerError               no Prefect server could be reached or started

Each message is one line: what was expected, what was received, what to do.
"""


class DigitsError(Exception):
    """Base of all errors that are shown to the user as one line."""

    exit_code = 1


class InvalidParameterError(DigitsError):
    """A value of the recipe or an option is out of bounds."""

    exit_code = 2


class DatasetNotFoundError(DigitsError):
    """No dataset of this name, no such folder, or a file of it is missing."""

    exit_code = 2


class DatasetUnavailableError(DigitsError):
    """MNIST could not be downloaded, or files were replaced while they were read."""


class InvalidDataError(DigitsError):
    """The files or arrays are not what the network expects."""


class TrainingDivergedError(DigitsError):
    """A loss or a weight is not finite."""


class DatabaseError(DigitsError):
    """The metrics table cannot be opened, read or written."""


class RunNotFoundError(DigitsError):
    """No row for this run."""


class RunClosedError(DigitsError):
    """The row has reached its terminal status already."""


class ModelStoreError(DigitsError):
    """The model store cannot be read or written."""


class DamagedModelError(ModelStoreError):
    """A file of a version is not what its digest says, or does not answer as it did."""


class DamagedStateError(ModelStoreError):
    """The pointer or the history cannot be parsed, or is missing."""


class VersionNotFoundError(ModelStoreError):
    """No champion yet, or no such version to roll back to."""


class ImageError(DigitsError):
    """An image cannot be read, or there is no digit on it."""


class CorrectionNotFoundError(DigitsError):
    """No such correction, or more than one that fits."""


class ServeError(DigitsError):
    """The address cannot be listened on."""


class ServerError(DigitsError):
    """No Prefect server could be reached or started."""
