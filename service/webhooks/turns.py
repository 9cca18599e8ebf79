"""Whose turn it is: a small part of what is due, held in memory, shared out between hosts."""

from collections import OrderedDict, deque

from service.store.base import Delivery

_HELD = 1024
_HELD_PER_HOST = 256
_DOWN_REMEMBERED = 10_000


class Turns:
    """Deliveries that wait for a slot or are under way, by host (scheme, host, port).

    A host that does not answer gets an eighth of its slots until it answers again, so that several such hosts leave
    room for the others.
    """

    def __init__(self, slots: int, slots_per_host: int) -> None:
        self._slots = slots
        self._slots_per_host = slots_per_host
        self._waiting: OrderedDict[str, deque[Delivery]] = OrderedDict()
        self._under_way: dict[str, int] = {}
        self._held: set[int] = set()
        self._done: set[int] = set()
        self._down: set[str] = set()

    def __len__(self) -> int:
        """How many are held: waiting or under way."""
        return len(self._held)

    def begin_scan(self) -> None:
        """From now on the store is read: what is done meanwhile may be in the answer all the same."""
        self._done.clear()

    def is_new(self, delivery: Delivery) -> bool:
        """Neither held nor done since the scan began."""
        return delivery.id not in self._held and delivery.id not in self._done

    def offer(self, host: str, delivery: Delivery) -> bool:
        """Take it in, unless it was just done or enough is held of its host or of all; it stays in the store then."""
        if not self.is_new(delivery):
            return False
        line = self._waiting.get(host, ())
        most = self._limit(host) if host in self._down else max(_HELD_PER_HOST, self._limit(host))
        if len(self._held) >= max(_HELD, self._slots) or len(line) >= most:
            return False
        self._held.add(delivery.id)
        self._waiting.setdefault(host, deque()).append(delivery)
        return True

    def take(self) -> tuple[str, Delivery] | None:
        """The next that may be sent now, hosts in turn; None while there is none or no slot is free."""
        if sum(self._under_way.values()) >= self._slots:
            return None
        host = next((h for h in self._waiting if self._under_way.get(h, 0) < self._limit(h)), None)
        if host is None:
            return None
        line = self._waiting[host]
        delivery = line.popleft()
        if line:
            self._waiting.move_to_end(host)
        else:
            del self._waiting[host]
        self._under_way[host] = self._under_way.get(host, 0) + 1
        return host, delivery

    def done(self, host: str, delivery: Delivery) -> None:
        """Its try is recorded."""
        self._held.discard(delivery.id)
        self._done.add(delivery.id)
        self._under_way[host] -= 1
        if not self._under_way[host]:
            del self._under_way[host]

    def answered(self, host: str, *, reachable: bool) -> None:
        """What a try told about the host."""
        if reachable:
            self._down.discard(host)
        elif len(self._down) < _DOWN_REMEMBERED:
            self._down.add(host)

    def _limit(self, host: str) -> int:
        return max(1, self._slots_per_host // 8) if host in self._down else self._slots_per_host
