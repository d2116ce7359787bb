"""Prefect's settings, as long as the user has not set them."""

import os

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "digits",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def set_prefect_defaults(**more: str) -> None:
    """Set what the user has not set. Prefect reads it once, when it is imported."""
    for name, value in {**DEFAULTS, **more}.items():
        os.environ.setdefault(name, value)
