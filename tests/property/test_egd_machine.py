"""The EGD machine with a QEMU that loses its broker."""

from collections import deque

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drawwell.doors.qemu_egd.machine import (
    ANSWER_BYTES,
    LEAST_AHEAD,
    REQUEST_BYTES,
    EgdMachine,
    EgdState,
    paid,
    read_sizes,
)
from drawwell.errors import RemoteProtocolError

SIZES = st.binary(min_size=1, max_size=64)
MOST_AHEAD = 160
SETTLED_LOOKS = 200


def cost(n_bytes: int) -> int:
    """Return the kernel's count, which exceeds the bytes and grows in steps."""
    return 768 if n_bytes <= ANSWER_BYTES else 1024


class SimulatedQemu:
    """A model of backends/rng-egd.c, with a queue that outlives connections."""

    def __init__(self) -> None:
        self.queue: deque[int] = deque()
        self.to_broker = b""
        self.to_qemu: deque[int] = deque()
        self.read_bytes = 0
        self.lost_bytes = 0

    def ask(self, n_bytes: int, *, connected: bool = True) -> None:
        self.queue.append(n_bytes)
        if connected:
            self.to_broker += bytes((2, n_bytes))

    def read(self) -> None:
        while self.queue and self.to_qemu:
            n_bytes = min(self.queue[0], self.to_qemu[0])
            self.queue[0] -= n_bytes
            self.to_qemu[0] -= n_bytes
            self.read_bytes += n_bytes
            if not self.queue[0]:
                self.queue.popleft()
            if not self.to_qemu[0]:
                self.to_qemu.popleft()
                self.whole.popleft()

    def connect(self) -> None:
        self.lost_bytes += sum(self.to_qemu)
        self.to_broker, self.to_qemu, self.whole = b"", deque(), deque[int]()

    @property
    def queued(self) -> int:
        """Model SIOCOUTQ: a send counts until it was read completely."""
        return sum(map(cost, self.whole))


class Scene:
    """The machine under test, connected to a simulated QEMU."""

    def __init__(self) -> None:
        self.qemu = SimulatedQemu()
        self.now = self.granted_bytes = 0.0
        self.reconnect()

    def reconnect(self) -> None:
        self.qemu.connect()
        self.machine = EgdMachine(cost, MOST_AHEAD)

    def look(self, plenty_bytes: int = 0) -> None:
        """Process once, with all consequences, while QEMU does nothing."""
        self.now += 0.01
        self.machine.look(self.qemu.to_broker or None, self.qemu.queued, plenty_bytes, self.now)
        if self.machine.state is EgdState.DRAWING:
            self.granted_bytes += self.machine.draw_bytes
            self.machine.drawn(bytes(self.machine.draw_bytes))
            while self.machine.state is EgdState.SENDING:
                n_bytes = len(self.machine.unsent)
                self.qemu.to_qemu.append(n_bytes)
                self.qemu.whole.append(n_bytes)
                self.machine.sent(n_bytes)
        self.qemu.to_broker = self.qemu.to_broker[self.machine.take_bytes :]

    def settle(self) -> None:
        for _ in range(SETTLED_LOOKS):
            self.look()
            self.qemu.read()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 255)),
        st.tuples(st.just("lose"), st.integers(1, 255)),
        st.tuples(st.sampled_from(["read", "look", "plenty", "reconnect"]), st.just(0)),
    ),
    max_size=60,
)


@given(ACTIONS)
@example([("lose", 64)])
@example([("lose", 64), ("look", 0), ("ask", 64), ("read", 0)])
@example([("lose", 64), ("lose", 255), ("reconnect", 0), ("look", 0), ("read", 0), ("ask", 64)])
def test_no_request_waits_forever(actions: list[tuple[str, int]]) -> None:
    """At the end QEMU waits for nothing, and one answer is sent ahead."""
    scene = Scene()
    for action, n_bytes in actions:
        match action:
            case "ask":
                scene.qemu.ask(n_bytes)
            case "lose":
                scene.qemu.ask(n_bytes, connected=False)
            case "read":
                scene.qemu.read()
            case "reconnect":
                scene.reconnect()
            case _:
                scene.look(8192 if action == "plenty" else 0)
    scene.settle()

    lies_bytes = sum(scene.qemu.to_qemu)
    assert (list(scene.qemu.queue), scene.qemu.to_broker) == ([], b"")
    assert lies_bytes > 0
    assert scene.granted_bytes == scene.qemu.read_bytes + lies_bytes + scene.qemu.lost_bytes
    assert scene.machine.in_flight.n_bytes - lies_bytes in range(255)  # partly read sends
    assert scene.machine.owed_bytes(b"", scene.qemu.queued) == 0


@given(st.integers(1, 400))
def test_answers_ahead_of_a_slow_guest_do_not_grow(requests: int) -> None:
    """At most two answers are in the socket, however slowly QEMU reads."""
    scene = Scene()
    scene.look()
    for number in range(requests):
        scene.qemu.ask(ANSWER_BYTES)
        if number % 3:
            scene.qemu.read()
        scene.look()
        scene.qemu.read()

        assert scene.machine.in_flight.n_bytes <= 2 * ANSWER_BYTES


def test_a_guest_that_reads_on_and_on_is_sent_ahead() -> None:
    """Answers sent ahead are replenished, but do not grow."""
    scene = Scene()
    most = 0
    for _ in range(500):
        scene.qemu.ask(ANSWER_BYTES)
        scene.qemu.read()
        scene.look(1 << 20)
        most = max(most, scene.machine.in_flight.n_bytes)

    assert LEAST_AHEAD * ANSWER_BYTES < most <= (MOST_AHEAD + 1) * ANSWER_BYTES


def test_an_inherited_connection_is_not_sent_what_lies_there_already() -> None:
    """The next broker detects an answer in the socket, and sends none."""
    scene = Scene()
    scene.look()
    scene.machine = EgdMachine(cost, MOST_AHEAD, scene.qemu.queued)
    scene.look()

    assert scene.granted_bytes == scene.machine.in_flight.n_bytes == ANSWER_BYTES


@given(SIZES, st.integers(0, 4096))
def test_requests_are_paid_in_their_order(sizes: bytes, n_bytes: int) -> None:
    """The bytes answer as many requests as possible, in order."""
    count = paid(sizes, n_bytes)
    assert sum(sizes[:count]) <= n_bytes or not count
    assert count == len(sizes) or sum(sizes[: count + 1]) > n_bytes


@given(st.binary(max_size=200))
def test_any_bytes_are_requests_or_a_breach(data: bytes) -> None:
    """Only requests for at least one byte are accepted."""
    if set(data[::REQUEST_BYTES]) <= {2} and 0 not in data[1::REQUEST_BYTES]:
        assert read_sizes(data) == data[1::REQUEST_BYTES]
    else:
        with pytest.raises(RemoteProtocolError):
            read_sizes(data)
