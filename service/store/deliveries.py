"""The outbox of webhooks: rows written in the transaction of their event, one line a job and target."""

import sqlite3
from collections.abc import Mapping, Sequence

from common.job import Event
from service.store import events
from service.store.base import Attempted, Delivery
from service.store.queries import load

SQL = load("deliveries")


def enqueue(
    connection: sqlite3.Connection, uid: str, event: Event, hooks: Mapping[str, Sequence[str]], now: float
) -> bool:
    """A delivery for each target that asked for this type; whether there is one."""
    told = False
    for target, types in hooks.items():
        if event.type not in types:
            continue
        if event.type == "job.progress":
            connection.execute(SQL["drop_waiting_progress"], (uid, target))
        connection.execute(
            SQL["insert_delivery"],
            {
                "uid": uid,
                "event": event.id,
                "target": target,
                "type": event.type,
                "webhook_id": f"msg_{uid}_{event.sequence}_{target}",
                "now": now,
            },
        )
        told = True
    return told


def tried(connection: sqlite3.Connection, delivery: Delivery, result: Attempted) -> None:
    """Record a try; a delivery that is over gives its place to the next."""
    n = delivery.tries + 1
    row = (delivery.id, n, result.at, result.status, result.error, result.seconds)
    connection.execute(SQL["insert_attempt"], row)
    pending = result.state == "pending"
    connection.execute(SQL["update_delivery"], (result.state, n, result.next_at, int(pending), delivery.id))
    if result.switch_off:
        connection.execute(SQL["switch_off"], (delivery.target, delivery.uid))
        connection.execute(SQL["kill_line"], (delivery.uid, delivery.target))
    elif not pending:
        connection.execute(SQL["promote"], (delivery.uid, delivery.target))


def due(row: Sequence[object]) -> Delivery:
    delivery_id, uid, job_id, target, kind, webhook_id, created, tries, event_id, data = row
    return Delivery(
        id=int(str(delivery_id)),
        uid=str(uid),
        job_id=str(job_id),
        target=str(target),
        type=str(kind),
        webhook_id=str(webhook_id),
        created=float(str(created)),
        tries=int(str(tries)),
        event=events.served(int(str(event_id)), str(data)),
    )
