from ktrdr.ib.heartbeat import Heartbeat


def test_it_asks_after_a_heartbeat_and_counts_as_dead_after_two():
    heartbeat = Heartbeat(15, now=100)
    assert (heartbeat.request_at, heartbeat.dead_at) == (115, 130)
    heartbeat.answered(112)
    assert (heartbeat.request_at, heartbeat.dead_at) == (127, 142)


def test_it_is_fresh_for_two_heartbeats_after_an_answer():
    heartbeat = Heartbeat(15, now=100)
    assert heartbeat.fresh_until == 130


def test_data_that_nobody_waits_for_need_no_probe():
    heartbeat = Heartbeat(15, now=100)
    assert heartbeat.probe_at is None
    heartbeat.data_requested(101)
    heartbeat.data_answered(102)
    heartbeat.data_ended()
    assert heartbeat.probe_at is None


def test_data_that_somebody_waits_for_are_probed_though_the_time_is_answered():
    heartbeat = Heartbeat(15, now=100)
    heartbeat.data_requested(101)
    heartbeat.answered(110)
    assert heartbeat.probe_at == 116
    heartbeat.data_requested(112)
    assert heartbeat.probe_at == 116


def test_a_connection_that_tells_the_time_alone_is_not_fresh():
    heartbeat = Heartbeat(15, now=100)
    heartbeat.data_requested(101)
    for now in range(105, 135, 5):
        heartbeat.answered(now)
    assert heartbeat.fresh_until == 131


def test_any_answer_about_data_is_a_sign_of_life_for_those_that_wait_still():
    heartbeat = Heartbeat(15, now=100)
    heartbeat.data_requested(101)
    heartbeat.data_requested(102)
    heartbeat.data_answered(120)
    heartbeat.data_ended()
    assert heartbeat.probe_at == 135
    assert heartbeat.answered_at == 120
