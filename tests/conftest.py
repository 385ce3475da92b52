"""Long forms run with --slow."""

import os

import pytest
from hypothesis import settings

# Several workers share the processors: a thread each, or they wait for one another. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("foldbench", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("foldbench")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))
