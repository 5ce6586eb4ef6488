import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "progdata",
    deadline=None,  # machines that run other work are slow at times
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("progdata")


@pytest.fixture(scope="session")
def countdown_build(tmp_path_factory) -> Path:
    """A build of the built-in source: every preset, all three splits, some rejects."""
    from tampering import build_in

    return build_in(tmp_path_factory.mktemp("countdown") / "out")


@pytest.fixture
def forgery(countdown_build, tmp_path):
    """A copy of that build, to be forged."""
    from tampering import Forgery

    return Forgery(shutil.copytree(countdown_build, tmp_path / "forged"))
