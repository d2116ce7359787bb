"""All that talks to Prefect's server or runs its processes."""
