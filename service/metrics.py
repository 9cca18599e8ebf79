"""Counters and gauges in Prometheus' form."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """The service's numbers; one registry an instance, so that two in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.submitted = Counter("trainyard_jobs_accepted", "Jobs accepted", registry=self.registry)
        self.dropped = Counter(
            "trainyard_events_dropped", "Events refused: stale or illegal moves", ["kind"], registry=self.registry
        )
        self.jobs = Gauge("trainyard_jobs", "Jobs by status", ["status"], registry=self.registry)
        self.deliveries = Gauge("trainyard_deliveries", "Webhook deliveries", ["state"], registry=self.registry)
        self.subscribers = Gauge("trainyard_subscribers", "Open event and log streams", registry=self.registry)
        self.writes_waiting = Gauge("trainyard_writes_waiting", "Writes in the queue", registry=self.registry)
        self.newest_event = Gauge("trainyard_newest_event_id", "Newest event id", registry=self.registry)

    def text(self) -> bytes:
        return generate_latest(self.registry)
