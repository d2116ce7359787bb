"""Everything that talks to a Prefect server or runs Prefect's processes."""

import os


def set_prefect_defaults(**more: str) -> None:
    """Set what the user has not set. Prefect reads it once, when it is imported."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "digits",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    for name, value in {**defaults, **more}.items():
        os.environ.setdefault(name, value)
