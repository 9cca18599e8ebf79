"""Webhooks: the outbox of events is sent, in order within a job and target, until taken or given up (train.md, 5)."""

from service.webhooks.worker import WebhookWorker

__all__ = ["WebhookWorker"]
