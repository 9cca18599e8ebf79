"""While pictures are made, somebody looks for a checkpoint that stands by then; what is wrong with one comes out."""

import pytest

from trainyard.trainer.failures import SourceRefused


def test_between_two_sampling_steps(studio, attempt):
    pictures_by_then = []
    studio.drawn(look=lambda: pictures_by_then.append(len(attempt.data("validation"))), num_validation_images=2)
    assert pictures_by_then == [0, 0, 0, 1, 1, 1], "before each of two pictures, and after each of their two steps"


def test_a_checkpoint_that_can_not_be_kept_ends_the_run_and_is_no_picture_that_failed(studio, attempt):
    def refused():
        raise SourceRefused("artifacts.output_uri: no credit is left")

    with pytest.raises(SourceRefused, match="no credit"):
        studio.drawn(look=refused)
    assert attempt.data("log") == []
