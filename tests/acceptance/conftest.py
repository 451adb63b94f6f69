"""One running city for the tests that only look at it or add to it; tests that kill or stop start their own."""

from collections.abc import Iterator

import pytest

from deploy.local.folder import scratch_folder
from deploy.local.unpack import ServerPrograms
from tests.acceptance.installation import Installation


@pytest.fixture(scope="session")
def city(programs: ServerPrograms) -> Iterator[Installation]:
    """`make run` in a folder of its own; `programs` has unpacked the servers before the clock starts."""
    with scratch_folder() as folder:
        installation = Installation(folder / "city").start()
        try:
            yield installation
        finally:
            installation.stop()
