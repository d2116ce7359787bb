"""The steps of a run, one file each."""

import logging

# Prefect forwards the records of an extra logger, but by default only warnings come
# that are not warnings.
logging.getLogger("digits").setLevel(logging.INFO)
