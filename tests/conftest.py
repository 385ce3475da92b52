"""Long forms run with --slow. On several processes (`-n 2`) a file's tests stay together, and so do all tests that read
the one run of the tiny experiment: what they share is made once."""

import pytest
from hypothesis import settings

settings.register_profile("foldbench", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("foldbench")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


@pytest.hookimpl(tryfirst=True)  # before the plugin that hands out groups looks at them
def pytest_collection_modifyitems(config, items):
    for item in items:
        together = "run" if "run" in item.fixturenames else item.path.name
        item.add_marker(pytest.mark.xdist_group(together))
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --slow"))
