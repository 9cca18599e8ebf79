"""What a deep validation says of a job."""


class Examined:
    """A job to be changed by the test; `errors` and `warnings` are what its `found()` says, by path."""

    reason = None

    @property
    def errors(self):
        found = self.found()
        assert found["ok"] is False, found
        self.reason = found["reason"]
        return {error["path"]: error["message"] for error in found["errors"]}

    @property
    def warnings(self):
        found = self.found()
        assert found["ok"] is True, found
        return {said["path"]: said["message"] for said in found["warnings"]}
