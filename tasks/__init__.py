"""The steps of a run, one file each."""

import logging

# Prefect hands the lines of an extra logger on as they come, and by default none come
# that are not warnings.
logging.getLogger("digits").setLevel(logging.INFO)
