"""A corpus with copies, indexed once for all tests of exports."""

import pytest

from tests.pipeline.export.copied import Copied, copied_stores


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copied:
    """Read it, copy it, keep it."""
    return copied_stores(tmp_path_factory.mktemp("copied"))
