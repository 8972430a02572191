from ktrdr.ib.client_ids import ClientIds


def test_they_go_up_to_fifty_and_from_the_first_again():
    ids = ClientIds(first=48)
    found = [ids.current]
    for _ in range(4):
        ids.advance()
        found.append(ids.current)
    assert found == [48, 49, 50, 48, 49]


def test_each_is_tried_once_before_a_wait():
    ids = ClientIds(first=48)
    assert [ids.note_in_use() for _ in range(3)] == [True, True, False]


def test_an_attempt_that_ends_otherwise_begins_the_count_anew():
    ids = ClientIds(first=49)
    assert ids.note_in_use()
    assert ids.is_trying_next
    ids.note_other_end()
    assert not ids.is_trying_next
    assert ids.note_in_use()


def test_one_that_is_not_the_first_any_more_leaves_as_many_to_try():
    """After fifty the first comes again, so that none is left out."""
    ids = ClientIds(first=48)
    ids.advance()
    assert [ids.note_in_use() for _ in range(3)] == [True, True, False]
