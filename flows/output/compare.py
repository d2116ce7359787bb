"""Whether a repeated run came out the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.tables.schema import Run

DECIDE_WEIGHTS = (
    "data_digest", "architecture", "epochs", "batch_size", "learning_rate", "seed",
    "code_commit", "code_dirty", "versions", "host", "corrections_digest", "corrections_share",
)  # fmt: skip


def compare_weights(run: Run, original: Run) -> str:
    """Say whether two runs have the same weights, and if not, what differs between them."""
    if original.weights_digest is None or run.weights_digest is None:
        return f"No weights to compare: {run.run_id} or {original.run_id} stored none."
    if run.weights_digest == original.weights_digest:
        return f"The weights are identical to those of {original.run_id}, bit for bit."
    now, then = run.as_dict(), original.as_dict()
    changed = [name for name in DECIDE_WEIGHTS if now[name] != then[name]]
    why = f"; changed since: {', '.join(changed)}" if changed else ""
    return f"The weights differ from those of {original.run_id}{why}."
