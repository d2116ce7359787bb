"""Every error that users can cause or meet, as one tree.

DigitsError                   exit code 1 unless stated
├── InvalidParameterError     a value of the recipe or an option is out of bounds (exit code 2)
├── DatasetNotFoundError      no such dataset or folder, or a file is missing (exit code 2)
├── DatasetUnavailableError   MNIST could not be downloaded, or files changed while read
├── InvalidDataError          the files or arrays are not what the network expects
├── KerasError                Keras cannot be imported, or computes with another backend
├── TrainingDivergedError     a loss or weight is not finite
├── DatabaseError             the metrics table cannot be opened, read or written
├── RunNotFoundError          no row for this run
├── RunClosedError            the row already has its terminal status
├── ModelStoreError           the model store cannot be read or written
│   ├── DamagedModelError     a file of a version does not match its digest, or its answers changed
│   ├── DamagedStateError     the pointer or the history is damaged or missing
│   └── VersionNotFoundError  no champion yet, or no such version to roll back to
├── CorrectionNotFoundError   no such correction, or more than one
├── ImageError                an image cannot be read, or shows no digit
├── ServeError                the server cannot listen on the address
└── ServerError               no Prefect server could be reached or started

Each message is one line: what was expected, what was received, what to do.
"""

# ruff: noqa: D101 - the tree says what each of them means


class DigitsError(Exception):
    """Base of all errors that are shown to the user as one line."""

    exit_code = 1


class InvalidParameterError(DigitsError):
    exit_code = 2


class DatasetNotFoundError(DigitsError):
    exit_code = 2


class DatasetUnavailableError(DigitsError): ...


class InvalidDataError(DigitsError): ...


class KerasError(DigitsError): ...


class TrainingDivergedError(DigitsError): ...


class DatabaseError(DigitsError): ...


class RunNotFoundError(DigitsError): ...


class RunClosedError(DigitsError): ...


class ModelStoreError(DigitsError): ...


class DamagedModelError(ModelStoreError): ...


class DamagedStateError(ModelStoreError): ...


class VersionNotFoundError(ModelStoreError): ...


class ImageError(DigitsError): ...


class CorrectionNotFoundError(DigitsError): ...


class ServeError(DigitsError): ...


class ServerError(DigitsError): ...
