import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.errors import InvalidRequest
from ktrdr.market.instruments import Series
from ktrdr.market.timeframes import Timeframe
from ktrdr.web.event_ids import EventIds

series = st.builds(
    Series, st.integers(1, 99).map(lambda number: f"S{number}"), st.sampled_from(Timeframe)
)
YEAR_1, YEAR_9999 = -62135596800, 253402300799
starts = st.integers(YEAR_1, YEAR_9999)
AAPL, MSFT = Series("AAPL", Timeframe.M1), Series("MSFT", Timeframe.H1)


@given(st.dictionaries(series, starts, min_size=1, max_size=50), st.randoms())
def test_an_id_is_read_as_it_was_written_in_whatever_order(positions, chance):
    names = [*positions]
    chance.shuffle(names)
    assert EventIds(names).read(EventIds(positions).write(positions)) == positions


@given(st.text(max_size=60))
def test_no_text_is_read_as_something_else(text):
    with pytest.raises(InvalidRequest, match="Last-Event-ID"):
        EventIds([AAPL]).read(text)


def test_it_is_short():
    newest = {Series(f"SYMBOL{i}", Timeframe.M1): 1_795_000_000 for i in range(50)}
    assert len(EventIds(newest).write(newest)) < 120


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + ".0",
        lambda text: text.rpartition(".")[0],
        lambda text: text.replace(".", ".-", 2),
        lambda text: text.upper(),
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text.replace(".", ".٣", 1),
        lambda text: text + "0" * 9,
    ],
)
def test_one_that_was_changed_is_refused(change):
    ids = EventIds([AAPL, MSFT])
    text = ids.write({AAPL: 1_795_000_000, MSFT: 1_794_000_000})
    with pytest.raises(InvalidRequest):
        ids.read(change(text))
