"""A trainer that prints a secret: no event tells it (DESIGN, Secrets)."""

from common.event import JobFailed, JobLog, JobProgress
from common.job import Reason
from service.ends import masked
from service.masker import Masker

MASKER = Masker(["hf_secret-token"])


def test_texts_of_events_are_masked_however_deep_they_lie():
    body = masked(JobLog(line="with hf_secret-token", extra={"a": [{"b": "hf_secret-token"}], "n": 3}), MASKER)
    assert body.data() == {"message": "with ••••", "a": [{"b": "••••"}], "n": 3}
    assert "secret-token" not in body.message()


def test_the_end_of_the_log_is_masked_and_the_reason_stays_one():
    body = masked(JobFailed(reason=Reason.DATA, log_tail="Authorization: hf_secret-token"), MASKER)
    assert isinstance(body.reason, Reason)
    assert body.log_tail == "Authorization: ••••"


def test_without_secrets_an_event_is_left_alone():
    body = JobProgress(step=1)
    assert masked(body, Masker(())) is body
