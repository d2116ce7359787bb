"""Lines that a library's native code writes to standard error, and that no setting turns off."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def drop_stderr_lines(unwanted: re.Pattern[bytes]) -> Iterator[None]:
    """Drop the lines of standard error that start with a pattern while the block runs.

    The other lines are written when the block ends.
    """
    with tempfile.TemporaryFile() as caught:
        terminal = os.dup(2)
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            caught.seek(0)
            os.write(2, b"".join(line for line in caught if not unwanted.match(line)))
