"""Everything that talks to a Prefect server or runs Prefect's processes."""

import os


def prepare_environment(**more: str) -> None:
    """Set what the user has not set, and undo what would keep us from our own Prefect server.

    Call it before importing Prefect, which reads the environment once.
    """
    from flows.prefect_host.environment import repair_environment

    repair_environment()
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "digits",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    for name, value in {**defaults, **more}.items():
        os.environ.setdefault(name, value)
