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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A language model of random weights, with the real tokenizer; never written to."""
    from tiny_model import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("model") / "tiny-r1")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """The same with a vocabulary of 300, for tests that need many samples."""
    from tiny_model import make_small_model

    return make_small_model(tmp_path_factory.mktemp("model") / "small-r1")
