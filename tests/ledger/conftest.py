"""A ledger in a scratch store."""

import pytest

from ktrdr.ledger.ledger import Ledger


@pytest.fixture
def path(data_dir):
    return data_dir / ".ktrdr" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    ledger = Ledger(path)
    yield ledger
    ledger.close()
