"""Where a model store keeps its files."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalFolder:
    """A folder on this machine.

    Args:
        local: The folder; made at the first write.
    """

    local: Path
