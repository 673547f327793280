"""The simulated device, byte for byte."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawwell.onerng.commands import Command, Mode
from drawwell.onerng.replies import IdentityReply, ReplyParser, VersionReply
from drawwell.onerng.verify import SIMULATOR, verify_dump
from drawwell.reports import Firmware
from drawwell.simulator.device import POOL_BYTES, Pool, SimulatedOneRng
from drawwell.simulator.firmware_image import simulated_dump
from drawwell.simulator.noise import AVALANCHE_ONES, RF_ONES, SimulatedFault, SimulatedNoise, biased

HARDWARE_ID = bytes(range(16))


def device(*, version: int = 3, rate: float = 0.0, seed: int = 1, dtr: bool = True) -> SimulatedOneRng:
    uniform = random.Random(seed).randbytes
    made = SimulatedOneRng(uniform, hardware_id=HARDWARE_ID, version=version, rate=rate)
    made.dtr = dtr
    return made


def after(*commands: bytes, version: int = 3) -> SimulatedOneRng:
    made = device(version=version)
    for command in commands:
        made.receive(command)
    return made


def ones(data: bytes) -> float:
    return int.from_bytes(data).bit_count() / (8 * len(data))


def everything(made: SimulatedOneRng) -> bytes:
    pieces = iter(lambda: made.transmit(4096), b"")
    return b"".join(pieces)


def test_it_powers_on_paused() -> None:
    """The device sends nothing before cmdO."""
    made = device()
    assert made.transmit(4096) == b""
    made.receive(b"cmdO")
    assert len(made.transmit(4096)) == 4096


def test_it_sends_only_while_dtr_is_up() -> None:
    """The device sends nothing while the host keeps DTR low."""
    made = after(b"cmdO")
    made.dtr = False
    assert made.transmit(4096) == b""
    made.dtr = True
    assert made.transmit(4096) != b""


@pytest.mark.parametrize("lost", [b"ccmdO", b"cmcmdO", b"cmdcmdO", b"CMDO", b"cm dO", b"cmd\nO"])
def test_a_byte_that_breaks_a_command_off_is_not_looked_at_again(lost: bytes) -> None:
    """The firmware's parser loses these commands, and so does the simulation."""
    assert after(lost).paused


@pytest.mark.parametrize("obeyed", [b"cmdO", b"\ncmdO\n", b"xyzcmdO", b"cmdccmdO", b"ccmdOcmdO"])
def test_what_the_firmware_obeys_is_obeyed(obeyed: bytes) -> None:
    """Other bytes between commands are ignored; ``cmdc`` is a mode itself."""
    assert not after(obeyed).paused


@given(st.binary(max_size=12), st.sampled_from([Command.RUN, Command.PAUSE]))
def test_a_command_is_obeyed_after_any_bytes(before: bytes, command: Command) -> None:
    """The leading line feed resets the parser from any state."""
    made = after(before, command.value)
    assert made.paused is (command is Command.PAUSE)


def test_a_challenge_takes_its_token_and_a_line_feed_ends_it() -> None:
    """``cmdS`` reads 32 digits, or fewer if another character follows."""
    whole = after(b"cmdS" + b"cd" * 16 + b"cmdO")
    broken = after(b"cmdS" + b"cd" * 3 + Command.RUN.value)
    assert not whole.paused
    assert not broken.paused


def test_noise_is_sent_in_whole_packets() -> None:
    """For any free space at the host, noise is a multiple of 64 bytes."""
    made = after(b"cmd1cmdO")
    assert [len(made.transmit(room)) for room in (63, 64, 100, 1000)] == [0, 64, 64, 960]


def test_the_rate_is_kept() -> None:
    """In virtual time, ten seconds give ten times the rate, within a packet."""
    made = device(rate=57_000)
    made.receive(b"cmdO")
    sent = 0
    for tick in range(1, 1001):
        made.advance(tick / 100)
        sent += len(made.transmit(4096))
    assert sent == pytest.approx(570_000, abs=64)


def test_a_slow_device_gives_500_bytes_a_second() -> None:
    """Fault ``slow`` applies to any rate, even an unlimited one."""
    made = device()
    made.fault = SimulatedFault.SLOW
    made.receive(b"cmdO")
    for tick in range(1, 101):
        made.advance(tick / 10)
        made.transmit(4096)
    made.advance(12.0)
    assert len(made.transmit(4096)) in (960, 1024)


def test_a_full_pool_is_stirred_and_not_replaced() -> None:
    """Excess samples are XORed into the pool, in order."""
    pool = Pool()
    pool.put(bytes(range(256)) * 28)
    pool.put(b"\xff" * 100)
    assert pool.count == POOL_BYTES
    assert pool.take(128) == bytes(255 - byte for byte in range(100)) + bytes(range(100, 128))


def test_the_pool_gives_each_byte_once() -> None:
    """Taken bytes are zeroed; then the ring restarts."""
    pool = Pool()
    pool.put(b"\x01" * POOL_BYTES)
    assert pool.take(POOL_BYTES) == b"\x01" * POOL_BYTES
    pool.count = 64
    assert pool.take(64) == bytes(64)


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=3000), st.integers(1, 40)), max_size=20))
def test_the_pool_is_a_queue_while_nothing_overflows(moves: list[bytes | int]) -> None:
    """Without overflow or underflow the pool is a FIFO queue."""
    pool, expected = Pool(), bytearray()
    for move in moves:
        if isinstance(move, bytes) and len(move) <= POOL_BYTES - pool.count:
            pool.put(move)
            expected += move
        elif isinstance(move, int) and move * 64 <= pool.count:
            assert pool.take(move * 64) == expected[: move * 64]
            del expected[: move * 64]
    assert pool.count == len(expected)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_version_is_sent(version: int) -> None:
    """``cmdv`` is answered in one short packet, after cmdO."""
    made = after(b"cmd4cmdwcmdvcmdO", version=version)
    reply = everything(made)
    assert ReplyParser().feed(reply) == [VersionReply(version)]
    assert reply.startswith(b"\r\nVersion ")


def test_the_hardware_id_is_sent_by_version_3_only() -> None:
    """``cmdI`` is unknown to older firmware."""
    answers = [ReplyParser().feed(everything(after(b"cmd4cmdIcmdO", version=v))) for v in (1, 2, 3)]
    assert answers == [[], [], [IdentityReply(HARDWARE_ID.hex().upper())]]


def test_replies_come_only_when_running() -> None:
    """A reply requested while paused waits for cmdO."""
    made = after(b"cmd4cmdv")
    assert everything(made) == b""
    made.receive(b"cmdO")
    assert everything(made) != b""


IDENTITY_LINE = b"\r\n________" + HARDWARE_ID.hex().upper().encode() + b"________\r\n"


@pytest.mark.parametrize("questions", [b"cmdvcmdXcmdI", b"cmdIcmdvcmdX", b"cmdXcmdIcmdv"])
def test_all_that_was_asked_is_answered_in_the_firmwares_order(questions: bytes) -> None:
    r"""Identity, version without \r\n (shared index), image, stale tail."""
    sent = everything(after(b"cmd4cmdw" + questions + b"cmdO"))
    assert sent == IDENTITY_LINE + b"Version 3\r\n" + simulated_dump(3) + bytes(64 + 65_472)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_image_goes_on_after_a_version_that_broke_into_it(version: int) -> None:
    """``cmdv`` during a dump is answered between packets, without losses."""
    made, dump = after(b"cmd4cmdwcmdXcmdO", version=version), simulated_dump(version)
    begun = made.transmit(4096)
    made.receive(b"cmdv")
    sent = begun + everything(made)
    reply = f"\r\nVersion {version}\r\n".encode()
    assert sent.startswith(dump[:4096] + reply + dump[4096:])


def test_an_image_that_is_asked_for_again_begins_again() -> None:
    """``cmdX`` during a dump restarts it at the first byte."""
    made = after(b"cmd4cmdwcmdXcmdO", version=2)
    made.transmit(4096)
    made.receive(b"cmdX")
    assert everything(made) == simulated_dump(2)


@pytest.mark.parametrize("question", [b"cmdv", b"cmdI", b"cmdX"])
def test_version_3_sends_stale_zeros_after_a_special_reply(question: bytes) -> None:
    """With an empty pool the counter underflows: 64 + 65,472 zeros."""
    sent = everything(after(b"cmd4cmdw" + question + b"cmdO"))
    assert sent.endswith(bytes(64 + 65_472))
    assert len(sent.rstrip(b"\x00")) == len(sent) - (64 + 65_472)


@pytest.mark.parametrize("version", [1, 2])
def test_older_firmware_sends_no_zeros(version: int) -> None:
    """Versions 1 and 2 check that 64 bytes are present."""
    sent = everything(after(b"cmd4cmdwcmdXcmdO", version=version))
    assert sent == simulated_dump(version)


def test_a_flush_ends_the_zeros() -> None:
    """After cmdo and cmdw the stream contains only fresh noise."""
    made = after(b"cmd4cmdwcmdXcmdO")
    made.transmit(262_144 + 4096)
    made.receive(b"cmdocmdwcmd1cmdO")
    assert ones(made.transmit(65_536)) == pytest.approx(0.5, abs=0.01)


def test_a_dump_is_verified_in_chunks_of_any_size() -> None:
    """``cmdX`` sends a correctly signed image."""
    made = after(b"cmd4cmdwcmdXcmdO")
    stream = b"".join(made.transmit(room) for room in [64, 128, 4096] * 100)
    assert verify_dump(stream, SIMULATOR).outcome is Firmware.VERIFIED


def test_bad_firmware_is_not_verified() -> None:
    """Fault ``bad-firmware`` changes one byte of the code."""
    made = device()
    made.fault = SimulatedFault.BAD_FIRMWARE
    made.receive(b"cmd4cmdwcmdXcmdO")
    assert verify_dump(everything(made), SIMULATOR).outcome is Firmware.NOT_VERIFIED


def test_a_silent_device_sends_nothing() -> None:
    """Fault ``silent`` sends neither replies nor noise."""
    made = device()
    made.fault = SimulatedFault.SILENT
    made.receive(b"cmdOcmdv")
    assert made.transmit(4096) == b""


def test_the_same_seed_gives_the_same_noise() -> None:
    """Noise depends on the seed, not on the sizes of reads."""
    first, second, other = after(b"cmd1cmdO"), after(b"cmd1cmdO"), device(seed=2)
    other.receive(b"cmd1cmdO")
    whole = first.transmit(65_536)
    assert b"".join(second.transmit(1024) for _ in range(64)) == whole
    assert other.transmit(65_536) != whole


def noise_in(mode: int, *, version: int = 3, fault: SimulatedFault = SimulatedFault.NONE) -> bytes:
    return SimulatedNoise(random.Random(7).randbytes, version=version).take(200_000, Mode(mode), fault)


@pytest.mark.parametrize(
    ("mode", "version", "expected"),
    [
        (1, 1, 0.5254),  # one sample per bit: about 5 % more ones than zeros
        (1, 3, 0.4987),  # two samples XORed: 2 p (1 - p)
        (7, 3, 0.5015),  # the radio
        (0, 1, 0.5),  # whitened: a CRC-16 hides the bias
    ],
)
def test_noise_is_biased_as_documented(mode: int, version: int, expected: float) -> None:
    """The share of ones is within four sigma of the documented share."""
    assert ones(noise_in(mode, version=version)) == pytest.approx(expected, abs=4 * 0.5 / 1_600_000**0.5)


@pytest.mark.parametrize("mode", [4, 5])
def test_a_mode_without_source_gives_no_noise(mode: int) -> None:
    """cmd4 and cmd5 send nothing."""
    assert noise_in(mode) == b""


def test_faults_are_what_they_are_called() -> None:
    """In raw mode each fault has the effect that its name suggests."""
    assert set(noise_in(1, fault=SimulatedFault.STUCK)) == {0xA5}
    assert noise_in(1, fault=SimulatedFault.COUNTER)[:300] == bytes(range(256)) + bytes(range(44))
    assert ones(noise_in(1, fault=SimulatedFault.BIASED)) == pytest.approx(0.75, abs=0.002)
    loop = noise_in(1, fault=SimulatedFault.LOOP)
    assert loop[4096:] == loop[:-4096]
    assert loop[1:4096] != loop[:4095]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_diode_stuck_at_zero_falls_silent(version: int) -> None:
    """The firmware passes eight zero bytes and drops the rest."""
    made = device(version=version)
    made.fault = SimulatedFault.ZEROS
    made.receive(b"cmd1cmdO")
    noise = SimulatedNoise(random.Random(7).randbytes, version=version)
    stuck = [noise.take(5000, Mode.RAW, SimulatedFault.ZEROS) for _ in range(3)]
    assert stuck == [bytes(8), b"", b""]
    assert len(noise.take(5000, Mode.RAW, SimulatedFault.NONE)) == 5000
    assert noise.take(5000, Mode.RAW, SimulatedFault.ZEROS) == bytes(8)
    assert everything(made) == b""  # fewer than a packet


def test_the_radio_goes_on_when_the_diode_is_stuck() -> None:
    """The firmware filters only the diode's bytes: in cmd3 the radio's pass."""
    assert ones(noise_in(3, fault=SimulatedFault.ZEROS)) == pytest.approx(0.5015, abs=0.0016)


def test_the_whitener_hides_a_stuck_source() -> None:
    """The whitener makes a stuck source look healthy, so read raw noise."""
    assert len(set(noise_in(0, fault=SimulatedFault.STUCK))) > 100


@pytest.mark.parametrize("probability", [AVALANCHE_ONES, RF_ONES])
def test_biased_bits_have_the_probability_asked_for(probability: tuple[int, int]) -> None:
    """Of all combinations, exactly numerator / 2**digits give a one."""
    numerator, digits = probability
    draws = iter([sum((case >> digit & 1) << case for case in range(1 << digits)) for digit in range(digits)])
    size = (1 << digits) // 8

    def uniform(wanted: int) -> bytes:
        assert wanted == size
        return next(draws).to_bytes(size, "little")

    assert int.from_bytes(biased(uniform, size, probability)).bit_count() == numerator
