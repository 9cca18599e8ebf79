"""The plan of a simulated run."""

from backends.simulated.spec import Options, Plan


def plan(**options):
    return Plan(start=0.0, options=Options(**options))


def test_a_plan_goes_on_behind_what_was_seen_of_it():
    for options in ({"steps": 5}, {"steps": 6, "outcome": "hang"}, {"steps": 0}, {"outcome": "lost"}):
        whole = list(plan(**options).items(0))
        ends = whole[-1][1].cursor is None
        assert [event.cursor.n for _, event in whole[: len(whole) - ends]] == list(range(1, len(whole) + 1 - ends))
        for seen in range(len(whole) + 1 - ends):
            assert list(plan(**options).items(seen)) == whole[seen:]


def test_what_was_seen_of_a_long_plan_is_not_made_again(monkeypatch):
    made = []
    real = Plan._progress
    monkeypatch.setattr(Plan, "_progress", lambda self, step: made.append(step) or real(self, step))
    next(plan(steps=1_000_000).items(1_000_001))
    assert made == [1_000_000]
