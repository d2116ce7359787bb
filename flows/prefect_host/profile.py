"""The Prefect profile by which commands in other terminals find the server of `digits up`."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import PREFECT_API_URL, PREFECT_HOME, load_profiles, save_profiles

PROFILE = "digits"


@contextmanager
def active_profile(api_url: str, running: bool) -> Iterator[None]:
    """Make the server the default of `prefect` and `digits` in other terminals.

    Does nothing if the user's own profile names this server, or if it was already running and
    another `digits up` manages the profile.
    """
    before = load_profiles().active_name
    if PREFECT_API_URL.value() == api_url and (running or before != PROFILE):
        yield
        return
    # Kept in a file, so the next `digits up` can restore it if this one is killed.
    memory = PREFECT_HOME.value() / "profile-before-digits-up"
    if before != PROFILE:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_text(before or "")
    profiles = load_profiles(include_defaults=False)
    profiles.update_profile(PROFILE, {PREFECT_API_URL: api_url})
    profiles.set_active(PROFILE)
    save_profiles(profiles)
    try:
        yield
    finally:
        profiles = load_profiles(include_defaults=False)
        profiles.remove_profile(PROFILE)
        remembered = memory.read_text() if memory.exists() else ""
        profiles.set_active(remembered or None, check=False)
        save_profiles(profiles)
        memory.unlink(missing_ok=True)
