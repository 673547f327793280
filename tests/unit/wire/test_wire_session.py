"""The session's rules, with real state machines on both sides."""

import pytest

from drawwell import errors
from drawwell.entropy.blocks import DrawClass, DrawRequest, Grant
from drawwell.errors import DrawwellError, LocalProtocolError, RemoteProtocolError
from drawwell.wire import limits
from drawwell.wire.frames import Bye, Call, Draw, Frame, Granted, Hello, Refusal, Result, Welcome
from drawwell.wire.refusals import REFUSAL_CODES, to_error, to_refusal
from drawwell.wire.session import RECEIVES, SENDS, ClientSession, ServerSession, Side, State


class ConnectionPair:
    """Both ends of a session; the output of one is the input of the other."""

    def __init__(self, *, opened: bool = True) -> None:
        self.client = ClientSession()
        self.server = ServerSession()
        if opened:
            self.to_server(self.client.hello("test"))
            self.to_client(self.server.welcome("attic", "web01"))

    def to_server(self, data: bytes) -> Frame | None:
        self.server.receive_data(data)
        return self.server.next_event()

    def to_client(self, data: bytes) -> Frame | None:
        self.client.receive_data(data)
        return self.client.next_event()

    @property
    def states(self) -> tuple[State, State]:
        return self.client.state, self.server.state


def grant_of(n_bytes: int, *, receipt: bytes = b"") -> Grant:
    return Grant(b"x" * n_bytes, 1, DrawClass.FULL, receipt, b"k" * 32 if receipt else b"")


def test_hello_and_welcome_open_the_session() -> None:
    """Both ends move together from opening to open."""
    pair = ConnectionPair(opened=False)
    assert pair.states == (State.OPENING, State.OPENING)

    assert pair.to_server(pair.client.hello("test")) == Hello((1,), "test")
    assert pair.states == (State.GREETED, State.GREETED)

    welcome = pair.to_client(pair.server.welcome("attic", "web01", renew_only=True))
    assert welcome == Welcome(1, "attic", "web01", renew_only=True)
    assert pair.states == (State.OPEN, State.OPEN)


def test_draw_is_granted() -> None:
    """A draw arrives unchanged, its grant answers it, and no request is open."""
    pair = ConnectionPair()
    request_id, data = pair.client.draw(
        DrawRequest(32, DrawClass.FULL, prediction_resistance=True, receipt=True)
    )

    assert pair.to_server(data) == Draw(32, DrawClass.FULL, True, True, request_id=request_id)
    assert pair.server.open_requests == pair.client.open_requests == 1

    granted = pair.to_client(pair.server.grant(request_id, grant_of(32, receipt=b"r")))
    assert isinstance(granted, Granted)
    assert (granted.data, granted.receipt) == (b"x" * 32, b"r")
    assert pair.server.open_requests == pair.client.open_requests == 0


def test_call_is_answered() -> None:
    """A verb, its arguments and the result arrive."""
    pair = ConnectionPair()
    request_id, data = pair.client.call("status", {"all": True})

    assert pair.to_server(data) == Call(request_id, "status", {"all": True})
    assert pair.to_client(pair.server.result(request_id, {"ok": 1})) == Result(request_id, {"ok": 1})


def test_answers_may_be_in_any_order() -> None:
    """Requests are identified by ID, not by order."""
    pair = ConnectionPair()
    ids = []
    for n_bytes in (1, 2, 3):
        request_id, data = pair.client.draw(DrawRequest(n_bytes, DrawClass.FULL))
        ids.append(request_id)
        pair.to_server(data)

    for request_id, n_bytes in reversed(list(zip(ids, (1, 2, 3), strict=True))):
        granted = pair.to_client(pair.server.grant(request_id, grant_of(n_bytes)))
        assert isinstance(granted, Granted)
        assert (granted.request_id, len(granted.data)) == (request_id, n_bytes)


@pytest.mark.parametrize("code", REFUSAL_CODES)
def test_client_raises_the_class_that_the_broker_raised(code: int) -> None:
    """Class, message, hint and time of every error are transmitted."""
    kind = REFUSAL_CODES[code]
    error = kind("no more", hint="Wait a little.")
    if isinstance(error, errors.Refused):
        error = kind("no more", retry_after_s=1.5, estimate=True, hint="Wait a little.")
    pair = ConnectionPair()
    request_id, data = pair.client.draw(DrawRequest(32, DrawClass.FULL))
    pair.to_server(data)

    refusal = pair.to_client(pair.server.refuse(request_id, error))

    assert isinstance(refusal, Refusal)
    raised = to_error(refusal)
    assert type(raised) is kind
    assert (str(raised), raised.hint) == ("no more", "Wait a little.")
    assert getattr(raised, "retry_after_s", None) == getattr(error, "retry_after_s", None)
    assert getattr(raised, "estimate", False) == getattr(error, "estimate", False)


def test_error_without_a_code_goes_as_its_nearest_base_or_as_a_broker_to_leave() -> None:
    """A new subclass is sent as its known base, or as an unavailable link."""

    class NewKindOfStarved(errors.Starved):
        pass

    assert type(to_error(to_refusal(1, NewKindOfStarved("x")))) is errors.Starved
    assert type(to_error(to_refusal(1, errors.SelfTestFailure("x")))) is errors.LinkUnavailable


def test_time_to_wait_is_never_rounded_down() -> None:
    """A client that waits for the given time is never early."""
    wait_s = 0.1234567891
    raised = to_error(to_refusal(1, errors.QuotaExceeded("x", retry_after_s=wait_s)))

    assert isinstance(raised, errors.Refused)
    assert raised.retry_after_s is not None
    assert wait_s <= raised.retry_after_s < wait_s + 2e-6


def test_request_asked_twice_breaks_the_session() -> None:
    """An open ID cannot be used again."""
    pair = ConnectionPair()
    _, data = pair.client.draw(DrawRequest(32, DrawClass.FULL))
    pair.to_server(data)

    with pytest.raises(RemoteProtocolError, match="twice"):
        pair.to_server(data)
    assert pair.server.state is State.BROKEN


def test_one_open_request_too_many_breaks_the_session() -> None:
    """A broker accepts 64 open requests; a client does not send more."""
    pair = ConnectionPair()
    for _ in range(limits.MAX_OPEN_REQUESTS):
        pair.to_server(pair.client.draw(DrawRequest(32, DrawClass.FULL))[1])
    assert pair.server.open_requests == limits.MAX_OPEN_REQUESTS

    with pytest.raises(LocalProtocolError):
        pair.client.draw(DrawRequest(32, DrawClass.FULL))
    with pytest.raises(RemoteProtocolError, match="more than 64"):
        pair.to_server(Draw(32, DrawClass.FULL, request_id=1000).encode())


@pytest.mark.parametrize(
    "answer",
    [
        Granted(b"x" * 32, 1, DrawClass.FULL, request_id=9),
        Granted(b"x" * 31, 1, DrawClass.FULL, request_id=1),
        Granted(b"x" * 32, 1, DrawClass.DRBG, request_id=1),
        Granted(b"x" * 32, 1, DrawClass.FULL, b"unasked", b"k" * 32, request_id=1),
        Result(1, {}),
        Refusal(9, 1),
        Refusal(0, 1),
        Refusal(1, 200),
        Welcome(1, "attic", "web01"),
        Draw(32, DrawClass.FULL, request_id=1),
    ],
    ids=lambda frame: repr(frame)[:60],
)
def test_client_takes_no_answer_that_it_did_not_ask_for(answer: Frame) -> None:
    """None of these frames answers a draw of 32 full bytes, request 1."""
    pair = ConnectionPair()
    request_id, _ = pair.client.draw(DrawRequest(32, DrawClass.FULL))
    assert request_id == 1

    with pytest.raises(RemoteProtocolError):
        pair.to_client(answer.encode())
    assert pair.client.state is State.BROKEN


def test_broker_cannot_answer_twice_nor_with_something_else() -> None:
    """Misuse is a LocalProtocolError, and the request stays open."""
    pair = ConnectionPair()
    request_id, data = pair.client.draw(DrawRequest(32, DrawClass.FULL))
    pair.to_server(data)

    other_class = Grant(b"x" * 32, 1, DrawClass.DRBG)
    for unasked in (grant_of(31), grant_of(32, receipt=b"unasked"), other_class):
        with pytest.raises(LocalProtocolError):
            pair.server.grant(request_id, unasked)
    with pytest.raises(LocalProtocolError):
        pair.server.result(request_id, {})
    pair.server.grant(request_id, grant_of(32))
    with pytest.raises(LocalProtocolError):
        pair.server.grant(request_id, grant_of(32))
    with pytest.raises(LocalProtocolError):
        pair.server.refuse(request_id, errors.Starved("x"))


def test_versions_without_one_in_common_break_the_session_with_the_reason() -> None:
    """The broker reports its version, and can still send BYE."""
    server = ServerSession()
    server.receive_data(Hello((2, 3)).encode())

    with pytest.raises(RemoteProtocolError, match="supports 1"):
        server.next_event()
    client = ClientSession()
    client.hello()
    client.receive_data(server.bye("speaks 1"))
    assert client.next_event() == Bye("speaks 1")


def test_welcome_in_a_version_that_was_not_offered_is_an_error() -> None:
    """A client rejects a version that it did not offer."""
    client = ClientSession()
    client.hello()
    client.receive_data(Welcome(2, "attic", "web01").encode())

    with pytest.raises(RemoteProtocolError):
        client.next_event()


def test_broker_may_refuse_the_whole_session() -> None:
    """A refusal with ID 0 instead of the welcome closes both ends."""
    pair = ConnectionPair(opened=False)
    pair.to_server(pair.client.hello())

    refusal = pair.to_client(pair.server.refuse(limits.SESSION_ID, errors.PermissionRefused("unknown")))

    assert isinstance(refusal, Refusal)
    assert type(to_error(refusal)) is errors.PermissionRefused
    assert pair.states == (State.CLOSED, State.CLOSED)


def test_refusal_before_the_welcome_is_of_the_whole_session() -> None:
    """A broker that refuses a single request before the welcome is in error."""
    pair = ConnectionPair(opened=False)
    pair.client.hello()

    with pytest.raises(RemoteProtocolError, match="not open"):
        pair.to_client(Refusal(7, 1).encode())
    assert pair.client.state is State.BROKEN


def test_nothing_is_parsed_before_the_welcome_is_sent() -> None:
    """A draw that follows the hello too early waits for the welcome."""
    server = ServerSession()
    server.receive_data(Hello((1,)).encode() + Draw(32, DrawClass.FULL, request_id=1).encode())
    assert isinstance(server.next_event(), Hello)
    assert server.next_event() is None

    server.welcome("attic", "web01")
    assert server.next_event() == Draw(32, DrawClass.FULL, request_id=1)


@pytest.mark.parametrize("end", ["client", "server"])
def test_after_goodbye_nothing_is_sent_or_read(end: str) -> None:
    """A BYE from either end closes both; later input is dropped unread."""
    pair = ConnectionPair()
    if end == "client":
        assert pair.to_server(pair.client.bye("done")) == Bye("done")
    else:
        assert pair.to_client(pair.server.bye("done")) == Bye("done")
    assert pair.states == (State.CLOSED, State.CLOSED)

    assert pair.to_server(b"garbage") is None
    assert pair.server.unparsed_bytes == 0
    with pytest.raises(LocalProtocolError):
        pair.client.draw(DrawRequest(32, DrawClass.FULL))
    with pytest.raises(LocalProtocolError):
        pair.server.bye()


def test_every_frame_outside_of_its_state_is_an_error_at_its_first_byte() -> None:
    """In each state, each unexpected frame breaks the session."""
    kinds = (Hello, Welcome, Draw, Granted, Refusal, Call, Result, Bye)
    for (role, state), moves in RECEIVES.items():
        for kind in kinds:
            if kind in moves:
                continue
            session = _session_in(role, state)
            session.receive_data(bytes((kind.TYPE,)))
            with pytest.raises(RemoteProtocolError):
                session.next_event()
            assert session.state is State.BROKEN


def test_tables_of_both_ends_fit_each_other() -> None:
    """Each side accepts every frame that the other may send while open."""
    for speaker, listener in ((Side.BROKER, Side.CLIENT), (Side.CLIENT, Side.BROKER)):
        assert SENDS[speaker, State.OPEN] == RECEIVES[listener, State.OPEN]


def test_draw_over_the_limit_is_not_even_asked() -> None:
    """The client itself refuses a draw of zero or too many bytes."""
    pair = ConnectionPair()
    for n_bytes in (0, limits.MAX_DRAW_BYTES + 1):
        with pytest.raises(LocalProtocolError):
            pair.client.draw(DrawRequest(n_bytes, DrawClass.FULL))


def test_ids_wrap_around_without_meeting_an_open_one() -> None:
    """After the last ID, the first free ID follows."""
    client = ConnectionPair().client
    client.draw(DrawRequest(32, DrawClass.FULL))
    client._last_id = limits.MAX_REQUEST_ID - 1

    assert [client.draw(DrawRequest(32, DrawClass.FULL))[0] for _ in range(2)] == [limits.MAX_REQUEST_ID, 2]


def _session_in(role: Side, state: State) -> ClientSession | ServerSession:
    pair = ConnectionPair(opened=state is State.OPEN)
    if state is State.GREETED:
        pair.to_server(pair.client.hello())
    session = pair.client if role is Side.CLIENT else pair.server
    assert session.state is state
    return session


def test_refusal_of_an_unknown_code_has_no_error() -> None:
    """A code that is not in the table is an error of the peer."""
    with pytest.raises(RemoteProtocolError):
        to_error(Refusal(1, 250))
    assert all(issubclass(kind, DrawwellError) for kind in REFUSAL_CODES.values())
