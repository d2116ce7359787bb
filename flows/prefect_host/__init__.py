"""Everything that talks to a Prefect server or runs Prefect's processes."""
