"""A file of somebody else is looked at before anything is written to it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from tests.fake_connection import HEADER, coverage_of, fill, price, utc
from tests.gap_filler.test_gap_filler import starts_in

TOKYO = ZoneInfo("Asia/Tokyo")
DAY = utc("2026-11-19 10:00")
MINUTES = range(DAY, DAY + 7200, 60)
"""A whole session of the stand-in."""
DAYS = [start + 86400 * day for day in (-2, -1, 0) for start in MINUTES]
PLAIN = "%Y-%m-%d %H:%M:%S"


def rows(starts, *, zone=UTC, form=PLAIN, later_s=0):
    lines = []
    for start in starts:
        moment, bar = datetime.fromtimestamp(start + later_s, zone), price(start)
        lines.append(f"{moment:{form}},{','.join(map(repr, bar[1:5]))},{bar.volume}\n")
    return HEADER + "".join(lines)


@pytest.fixture
def look(data_dir, make_filler, connection):
    """Begin with such a file, and do all that there is to do; the series, and its file."""

    def look(text, timeframe="1m", entry=""):
        path = data_dir / f"AAPL_{timeframe}.csv"
        path.write_text(text)
        (data_dir / "instruments.toml").write_text(f"[AAPL]\n{entry}\n")
        filler = make_filler()
        fill(filler)
        filler.request_scan()
        fill(filler)
        assert bool(connection.requested) == (path.read_text() != text)
        return filler, path

    return look


def of_aapl(filler):
    (one,) = coverage_of(filler)["series"]
    return one


@pytest.mark.parametrize(
    ("text", "timeframe", "why"),
    [
        (
            rows(MINUTES, zone=TOKYO),
            "1m",
            "as UTC 0 of 120 rows lie in the contract's sessions, as Asia/Tokyo 120 of 120",
        ),
        (rows(DAYS, later_s=60), "1m", "its times are the ends of bars, not their starts"),
        (rows(MINUTES), "5m", "most rows are a minute apart, less than a bar of 5m"),
        (rows(MINUTES[::5]), "1m", "all rows begin as bars of 5m do, and not as those of 1m"),
    ],
    ids=["zone", "ends", "shorter", "longer"],
)
def test_one_that_is_not_understood_is_left_as_it_is(look, text, timeframe, why):
    filler, path = look(text, timeframe)
    assert path.read_text() == text
    told = of_aapl(filler)
    assert (told["state"], told["error"]) == (
        "not_understood",
        f"{path.name} is not understood: {why}",
    )
    assert told["hint"].startswith("nothing is written to it; ")
    assert set(told["missing"]) == {"not_understood"}
    (problem,) = filler.status.recent_errors
    assert problem.message == told["error"]


TOKYO_S = 9 * 3600
WRONG_ZONE = (
    "by the zone that its times say, 0 of 120 rows lie in the contract's sessions; the same clock "
    "in Asia/Tokyo: 120 of 120"
)


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S+00:00", "%Y-%m-%dT%H:%M:%SZ", "epoch"])
def test_times_that_say_a_wrong_zone_are_not_understood(look, form):
    text = rows(MINUTES, later_s=TOKYO_S, form=form)
    if form == "epoch":
        for start in MINUTES:
            text = text.replace("epoch", str(start + TOKYO_S), 1)
    filler, path = look(text)
    told = of_aapl(filler)
    assert (told["state"], told["error"]) == (
        "not_understood",
        f"AAPL_1m.csv is not understood: {WRONG_ZONE}",
    )
    assert 'zone = "UTC"' in told["hint"]
    assert path.read_text() == text


def test_times_of_a_wrong_zone_are_kept_if_a_person_says_that_they_are_right(look):
    text = rows(MINUTES, later_s=TOKYO_S, form="%Y-%m-%d %H:%M:%S+00:00")
    filler, path = look(text, entry='zone = "UTC"')
    assert of_aapl(filler)["error"] is None
    assert path.read_text() != text


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (rows(MINUTES), ""),
        (rows(MINUTES, form="%Y-%m-%dT%H:%M:%S%z", zone=TOKYO), ""),
        (rows(MINUTES, zone=TOKYO), 'zone = "UTC"'),
        (rows([start + 60 for start in DAYS]), 'stamp = "start"'),
        (rows(MINUTES[:19], zone=TOKYO), ""),
        (HEADER, ""),
    ],
    ids=["UTC", "with a zone", "as UTC", "as starts", "few rows", "empty"],
)
def test_one_that_is_understood_is_filled(look, text, entry):
    filler, path = look(text, entry=entry)
    assert of_aapl(filler)["error"] is None
    kept = text.splitlines(keepends=True)
    now = path.read_text().splitlines(keepends=True)
    assert len(now) > len(kept)
    assert [row for row in now if row in set(kept)] == kept


def test_it_is_filled_once_its_times_say_their_zone(look):
    filler, path = look(rows(MINUTES, zone=TOKYO))
    path.write_text(rows(MINUTES, zone=TOKYO, form="%Y-%m-%d %H:%M:%S%z"))
    filler.note_changed_files([path.name])
    fill(filler)
    assert of_aapl(filler)["state"] == "complete"


def test_it_is_filled_once_its_entry_says_their_zone(look, data_dir):
    filler, path = look(rows(MINUTES, zone=TOKYO))
    (data_dir / "instruments.toml").write_text('[AAPL]\nzone = "UTC"\n')
    filler.note_changed_files(["instruments.toml"])
    fill(filler)
    assert of_aapl(filler)["error"] is None
    assert set(MINUTES) < set(starts_in(path))


def test_rows_that_somebody_adds_later_are_looked_at_too(look, clock):
    clock.now = utc("2026-11-20 20:00")
    filler, path = look(rows(MINUTES))
    text = path.read_text()
    evening = utc("2026-11-20 17:00")
    more = rows(range(evening, evening + 7200, 60)).removeprefix(HEADER)
    path.write_text(text + more)
    filler.note_changed_files([path.name])
    fill(filler)
    assert of_aapl(filler)["error"] == (
        "AAPL_1m.csv is not understood: as UTC 480 of 600 rows lie in the contract's sessions, and "
        "in no other zone nearly all of them"
    )
    assert path.read_text() == text + more


def test_it_is_tried_again_since_it_may_have_been_the_sessions(look, connection, clock):
    later = [start + 8 * 3600 for start in MINUTES]
    connection.closes_of["AAPL"] = 36060
    filler, path = look(rows(later))
    assert "is not understood" in of_aapl(filler)["error"]
    connection.closes_of["AAPL"] = 20 * 3600
    for _ in range(48):
        clock.now += 3600
        fill(filler)
    assert of_aapl(filler)["error"] is None
    assert set(later) < set(starts_in(path))


def test_a_file_of_old_rows_alone_is_looked_at(look):
    old = [start - 300 * 86400 for start in MINUTES]
    filler, _ = look(rows(old, zone=TOKYO))
    assert "as Asia/Tokyo 120 of 120" in of_aapl(filler)["error"]


def test_what_ktrdr_alone_has_written_is_not_doubted(put, make_filler, connection):
    path = put("AAPL_1m")
    filler = make_filler()
    fill(filler)
    connection.closes_of["AAPL"] = 37000  # IB tells other hours from now on
    filler.request_scan()
    fill(filler)
    assert of_aapl(filler)["error"] is None
    assert len(starts_in(path)) > 120


@pytest.mark.parametrize("entry", ['zone = "Asia/Tokyo"', 'stamp = "end"', "zone = 9"])
def test_other_zones_and_stamps_cannot_be_set(look, entry):
    text = rows(MINUTES, zone=TOKYO)
    filler, path = look(text, entry=entry)
    assert path.read_text() == text
    assert "instruments.toml: [AAPL]" in of_aapl(filler)["error"]


# The columns.


def numbered(text, name="", *, first=0):
    """The file as pandas writes it with its index."""
    header, *lines = text.splitlines(keepends=True)
    return f"{name},{header}" + "".join(
        f"{number},{one}" for number, one in enumerate(lines, first)
    )


@pytest.mark.parametrize("timeframe", ["1m", "1d"])
@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
@pytest.mark.parametrize("first", [0, 4711])
def test_one_with_an_index_is_left_as_it_is(look, timeframe, name, first):
    starts = MINUTES[:3] if timeframe == "1m" else [utc("2026-11-18"), utc("2026-11-19")]
    text = numbered(rows(starts), name, first=first)
    filler, path = look(text, timeframe)
    assert path.read_text() == text
    told = of_aapl(filler)
    assert told["error"].startswith(f"{path.name} is not understood: its first column has no name")
    assert "to_csv(…, index=False)" in told["hint"]


def test_one_without_its_index_is_filled(look):
    filler, path = look(numbered(rows(MINUTES)))
    path.write_text(rows(MINUTES))
    filler.note_changed_files([path.name])
    fill(filler)
    assert of_aapl(filler)["error"] is None
    assert len(starts_in(path)) > len(MINUTES)


@pytest.mark.parametrize(
    ("before", "after"), [("note,", "7,"), ("symbol,", "AAPL,"), (",", ","), (",", "x,")]
)
def test_other_columns_before_the_time_are_no_index(look, before, after):
    header, *lines = rows(MINUTES).splitlines(keepends=True)
    text = before + header + "".join(after + one for one in lines)
    filler, path = look(text)
    assert of_aapl(filler)["error"] is None
    assert len(path.read_text().splitlines()) > len(text.splitlines())


def test_a_column_without_a_name_at_the_end_is_no_index(look):
    text = rows(MINUTES).replace("\n", ",\n")
    filler, path = look(text)
    assert of_aapl(filler)["error"] is None
    assert all(one.endswith(",") for one in path.read_text().splitlines())


# Whatever happens meanwhile.


@pytest.mark.parametrize("is_noticed", [False, True])
@pytest.mark.parametrize("number", [3, 4])
def test_what_was_requested_before_is_not_written(
    data_dir, make_filler, connection, number, is_noticed
):
    """Several requests are in flight when the file becomes another one."""
    path, wrong = data_dir / "AAPL_1m.csv", rows(MINUTES, zone=TOKYO)
    path.write_text(rows(MINUTES))
    filler = make_filler(ktrdr_gap_max_age_days=300)

    def after():
        if len(connection.requested) == number:
            path.write_text(wrong)
            if is_noticed:
                filler.note_changed_files([path.name])

    connection.after = after
    fill(filler)
    filler.note_changed_files([path.name])
    fill(filler)
    assert len(connection.requested) >= number
    assert path.read_text() == wrong
    assert "as Asia/Tokyo 120 of 120" in of_aapl(filler)["error"]


def test_the_sessions_of_an_alike_contract_are_not_enough(put, data_dir, make_filler, connection):
    """They are known for fewer days than the file has."""
    put("MSFT_1m")
    filler = make_filler()
    fill(filler)
    path, text = data_dir / "AAPL_1m.csv", rows([at - 300 * 86400 for at in MINUTES], zone=TOKYO)
    path.write_text(text)
    filler.note_changed_files([path.name])
    fill(filler)
    assert path.read_text() == text
    assert "AAPL" not in {one[0] for one in connection.requested}


def test_an_entry_that_is_taken_back_settles_nothing_any_more(look, data_dir):
    filler, _ = look(rows(MINUTES, zone=TOKYO), entry='zone = "UTC"')
    assert of_aapl(filler)["error"] is None
    (data_dir / "instruments.toml").write_text("[AAPL]\n")
    filler.note_changed_files(["instruments.toml"])
    fill(filler)
    assert "is not understood" in of_aapl(filler)["error"]


def test_an_offset_in_the_last_rows_says_nothing_of_the_others(look):
    text = rows(MINUTES, zone=TOKYO)
    later = range(DAY + 86400, DAY + 86400 + 300, 60)
    text += rows(later, zone=TOKYO, form="%Y-%m-%d %H:%M:%S%z").removeprefix(HEADER)
    filler, path = look(text)
    assert path.read_text() == text
    assert "as Asia/Tokyo 120 of 125" in of_aapl(filler)["error"]


def test_more_rows_are_looked_at_where_the_last_days_have_few(look):
    hours = [DAY + 3600 * at - 86400 * day for day in range(100, 25, -1) for at in range(2)]
    text = rows(hours, zone=TOKYO)
    filler, path = look(text, "1h")
    assert path.read_text() == text
    assert "150 of 150" in of_aapl(filler)["error"]


def test_an_answer_of_before_does_not_clear_the_verdict(look, connection):
    filler, path = look(rows(DAYS))
    wrong = rows(DAYS, zone=TOKYO)

    def after():
        path.write_text(wrong)
        filler.note_changed_files([path.name])

    connection.after = after
    filler.request_scan()
    fill(filler)
    connection.after = lambda: None
    path.write_text(wrong)
    filler.note_changed_files([path.name])
    fill(filler)
    assert "is not understood" in of_aapl(filler)["error"]
    assert path.read_text() == wrong
    assert not filler.step()
