from datetime import UTC, datetime

import pytest

from ktrdr.completeness.gaps import Reason
from ktrdr.ipc.wording import because, day_of, remarks

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 21, tzinfo=UTC)


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words(reason):
    assert because(reason.value) != reason.value.replace("_", " ")


@pytest.mark.parametrize("state", ["closed", "before_listing", "expired", "not_looked_at", "open"])
def test_every_kind_of_day_has_words(state):
    assert day_of(state) != state.replace("_", " ")


def test_an_unknown_reason_is_readable_too():
    assert because("moon_phase") == "moon phase"
    assert day_of("full_moon") == "full moon"


def test_a_listing_within_the_days_looked_at_is_remarked():
    listed = datetime(2026, 11, 2, 14, 30, tzinfo=UTC)
    assert remarks(NOW, OCTOBER, listed, None, "ib") == [
        "listed on 2026-11-02, nothing is expected before"
    ]
    assert remarks(NOW, OCTOBER, datetime(1980, 12, 12, tzinfo=UTC), None, "ib") == []
    assert remarks(NOW, None, listed, None, None) == []


def test_a_contract_is_expired_from_the_day_after_its_last_on():
    assert remarks(NOW, OCTOBER, None, datetime(2026, 11, 20, tzinfo=UTC), "ib") == []
    assert remarks(NOW, OCTOBER, None, datetime(2026, 11, 19, tzinfo=UTC), "ib") == [
        "expired on 2026-11-19, nothing is expected after"
    ]


@pytest.mark.parametrize(("source", "words"), [("hours", "coming week"), ("rules", "usual ones")])
def test_sessions_that_ib_has_not_told_are_named_so(source, words):
    (remark,) = remarks(NOW, OCTOBER, None, None, source)
    assert words in remark
    assert "holidays are not known" in remark
