"""Lines that a library's native code writes to standard error, and that heed no setting."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def drop_stderr_lines(unwanted: re.Pattern[bytes]) -> Iterator[None]:
    """Leave out what standard error gets meanwhile, line by line, where it begins like this.

    The rest comes when the block ends.
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
