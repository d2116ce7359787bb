"""Every error that users can cause or meet, as one tree.

DigitsError                   exit code 1 unless stated
├── InvalidParameterError     a value of the recipe or an option is out of bounds (exit code 2)
├── DatasetNotFoundError      no such dataset or folder, or a file is missing (exit code 2)
├── DatasetUnavailableError   MNIST could not be downloaded, or files changed while read
├── InvalidDataError          the files or arrays are not what the network expects
├── TrainingDivergedError     a loss or weight is not finite
├── DatabaseError             the metrics table cannot be opened, read or written
├── RunNotFoundError          no row for this run
├── RunClosedError            the row already has its terminal status
├── ModelStoreError           the model store cannot be read or written
│   ├── DamagedModelError     a file of a version does not match its digest
│   ├── DamagedStateError     the pointer or the history is damaged or missing
│   └── VersionNotFoundError  no champion yet, or no such version to roll back to
├── CorrectionNotFoundError   no such correction, or more than one
├── ImageError                an image cannot be read, or shows no digit
├── ServeError                the server cannot listen on the address
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
    """No such dataset or folder, or one of its files is missing."""

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
    """The row already has its terminal status."""


class ModelStoreError(DigitsError):
    """The model store cannot be read or written."""


class DamagedModelError(ModelStoreError):
    """A file of a version does not match its digest, or its model answers differently."""


class DamagedStateError(ModelStoreError):
    """The pointer or the history cannot be parsed, or is missing."""


class VersionNotFoundError(ModelStoreError):
    """No champion yet, or no such version to roll back to."""


class ImageError(DigitsError):
    """An image cannot be read, or shows no digit."""


class CorrectionNotFoundError(DigitsError):
    """No such correction, or several that match."""


class ServeError(DigitsError):
    """The server cannot listen on the address."""


class ServerError(DigitsError):
    """No Prefect server could be reached or started."""
