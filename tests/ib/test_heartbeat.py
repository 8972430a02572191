from ktrdr.ib.heartbeat import Pulse


def test_it_asks_after_a_heartbeat_and_counts_as_dead_after_two():
    pulse = Pulse(15, now=100)
    assert (pulse.ask_at, pulse.dead_at) == (115, 130)
    pulse.answered(112)
    assert (pulse.ask_at, pulse.dead_at) == (127, 142)


def test_it_is_fresh_for_two_heartbeats_after_an_answer():
    pulse = Pulse(15, now=100)
    assert pulse.is_fresh(130)
    assert not pulse.is_fresh(130.1)


def test_data_that_nobody_waits_for_need_no_probe():
    pulse = Pulse(15, now=100)
    assert pulse.probe_at is None
    pulse.data_asked(101)
    pulse.data_answered(102)
    pulse.data_ended()
    assert pulse.probe_at is None


def test_data_that_somebody_waits_for_are_probed_though_the_time_is_answered():
    pulse = Pulse(15, now=100)
    pulse.data_asked(101)
    pulse.answered(110)
    assert pulse.probe_at == 116
    pulse.data_asked(112)
    assert pulse.probe_at == 116


def test_a_connection_that_tells_the_time_alone_is_not_fresh():
    pulse = Pulse(15, now=100)
    pulse.data_asked(101)
    for now in range(105, 135, 5):
        pulse.answered(now)
    assert pulse.is_fresh(131)
    assert not pulse.is_fresh(131.1)


def test_any_answer_about_data_is_a_sign_of_life_for_those_that_wait_still():
    pulse = Pulse(15, now=100)
    pulse.data_asked(101)
    pulse.data_asked(102)
    pulse.data_answered(120)
    pulse.data_ended()
    assert pulse.probe_at == 135
    assert pulse.answered_at == 120
