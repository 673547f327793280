"""A complete broker's HTTP API with curl, Python and pollinate."""

import asyncio
import base64
import hashlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from drawwell.crypto.receipts import verify_receipt
from drawwell.links.identity import LinkIdentity
from drawwell.testing import sick
from drawwell.testing.waiting import DEADLINE_S
from support.station import Site, running

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def site_of(folder: Path, more: str = "") -> Site:
    """Return a broker with recorded noise and an HTTP socket."""
    (folder / "noise").write_bytes(sick.good(3).read(2**20))
    source = f'[[source]]\nname = "noise"\ndriver = "replay"\npath = "{folder}/noise"\n'
    return Site(folder, sticks=(), more=f'{source}[http]\nlisten = "{folder}/http.sock"\n{more}')


def certificate_of(identity: LinkIdentity) -> list[str]:
    """Return curl's options for a joined machine."""
    directory = identity.directory
    files = {"--cacert": "ca.pem", "--cert": "cert.pem", "--key": "key.pem"}
    return [word for option, name in files.items() for word in (option, f"{directory}/{name}")]


async def curl(*arguments: str) -> tuple[int, bytes, str]:
    """Run curl; return exit code, body, and status line with fields."""
    command = ["curl", "-sS", "--max-time", str(DEADLINE_S), "-D", "/dev/stderr", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, fields = await process.communicate()
    return process.returncode or 0, output, fields.decode()


async def document(*arguments: str) -> dict:
    """Return curl's result, parsed as JSON."""
    return json.loads((await curl(*arguments))[1])


@needs_curl
def test_curl_draws_under_a_client_certificate(folder: Path) -> None:
    """Each format is a new draw; JSON has a receipt that verifies."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            with_ = certificate_of(await site.enrol("web01", quota="1KiB/day"))
            url = f"https://{site.tls}"
            raw = (await curl(*with_, f"{url}/v1/draw?bytes=48"))[1]
            hexed = (await curl(*with_, "-H", "Accept: text/plain", f"{url}/v1/draw?bytes=48"))[1]
            based = (await curl(*with_, f"{url}/v1/draw?bytes=48&format=base64&class=drbg"))[1]
            drawn = await document(*with_, "-H", "Accept: application/json", f"{url}/v1/draw?bytes=48")
            key = (await curl(*with_, f"{url}/v1/receipt-key"))[1]

            data = base64.b64decode(drawn["data"])
            found = [raw, bytes.fromhex(hexed.decode()), base64.b64decode(based), data]
            assert [len(each) for each in found] == [48] * 4
            assert len(set(found)) == 4
            receipt = verify_receipt(
                drawn["receipt"].encode(), key, data=data, hmac_key=base64.b64decode(drawn["receipt_key"])
            )
            assert (receipt.consumer, receipt.serial) == ("web01", drawn["serial"])
            own = (await document(*with_, f"{url}/v1/status"))["consumers"]
            assert [(each["name"], each["full_bytes"], each["drbg_bytes"]) for each in own] == [
                ("web01", 144, 48)
            ]

    asyncio.run(run())


@needs_curl
def test_curl_without_a_certificate_or_our_protocols_gets_nothing(folder: Path) -> None:
    """Without a certificate the handshake fails; an unknown ALPN is closed."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            with_ = certificate_of(await site.enrol("web01"))
            url = f"https://{site.tls}/v1/draw"
            code, output, _ = await curl(*with_[:2], url)
            assert (code != 0, output) == (True, b"")
            code, output, _ = await curl(*with_, "--no-alpn", url)
            assert (code != 0, output) == (True, b"")

    asyncio.run(run())


@needs_curl
def test_curl_gets_the_time_to_retry(folder: Path) -> None:
    """Beyond the quota the answer is 429 with a time, without a charge."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            with_ = certificate_of(await site.enrol("web01", quota="64B/day"))
            url = f"https://{site.tls}/v1/draw?bytes=64"
            assert len((await curl(*with_, url))[1]) == 64
            code, body, fields = await curl("--fail-with-body", *with_, url)
            assert code == 22
            assert fields.startswith("HTTP/1.1 429 ")
            problem = json.loads(body)
            (after,) = [line.split(": ")[1] for line in fields.splitlines() if line.startswith("Retry-After")]
            assert problem["kind"] == "QuotaExceeded"
            assert 0 < problem["retry_after_s"] <= int(after.strip()) < problem["retry_after_s"] + 1
            assert int(after.strip()) <= 86400

    asyncio.run(run())


@needs_curl
def test_curl_draws_over_the_socket_as_the_user_that_it_is(folder: Path) -> None:
    """The broker's own user is the consumer `local`."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            socket_ = ("--unix-socket", f"{folder}/http.sock")
            urls = [f"http://localhost/v1/draw?bytes={n}" for n in (16, 17)]
            assert len((await curl(*socket_, *urls))[1]) == 33
            own = (await document(*socket_, "http://localhost/v1/status"))["consumers"]
            assert [(each["name"], each["full_bytes"]) for each in own] == [("local", 33)]
            assert (await curl(*socket_, "http://localhost/readyz"))[1] == b"ready\n"
            doors = (await site.ask("status"))["doors"]
            assert f"http {folder}/http.sock" in doors

    asyncio.run(run())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@needs_curl
def test_user_who_is_no_consumer_draws_nothing(folder: Path) -> None:
    """Another local user gets 403, but can read that the broker is ready."""
    site = site_of(folder)
    os.chmod(folder, 0o755)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)

            async def as_other_user(path: str) -> bytes:
                command = ["setpriv", "--reuid=65534", "--clear-groups", "curl", "-sS", "--unix-socket"]
                command += [f"{folder}/http.sock", f"http://localhost{path}"]
                process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
                return (await process.communicate())[0]

            assert json.loads(await as_other_user("/v1/draw"))["status"] == 403
            assert await as_other_user("/readyz") == b"ready\n"

    asyncio.run(run())


def test_a_revocation_ends_the_open_connection(folder: Path) -> None:
    """After a revocation a second draw on the connection is not answered."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            directory = (await site.enrol("web01")).directory
            context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
            context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
            context.set_alpn_protocols(["http/1.1"])
            host, _, port = site.tls.rpartition(":")
            client = http.client.HTTPSConnection(host, int(port), timeout=DEADLINE_S, context=context)

            def asked() -> tuple[int, bytes, str | None]:
                client.request("GET", "/v1/draw?bytes=8")
                answer = client.getresponse()
                return answer.status, answer.read(), answer.getheader("Connection")

            status, data, connection = await asyncio.to_thread(asked)
            assert (status, len(data), connection) == (200, 8, None)
            await site.ask("consumer.revoke", {"name": "web01"})
            with pytest.raises((http.client.HTTPException, OSError)):
                await asyncio.to_thread(asked)
            client.close()

    asyncio.run(run())


# ---- pollinate

POLLINATE = shutil.which("pollinate")
_IN_PLACE = """
mount --bind "$1/cache" /var/cache/pollinate
mount --bind "$1/default" /etc/default/pollinate
shift
exec pollinate "$@"
"""
"""pollinate's paths are fixed, so a mount namespace replaces the files."""


async def pollinate(folder: Path, *arguments: str) -> tuple[int, bytes, str]:
    """Run Debian's script with cache and settings from `folder`."""
    command = ["unshare", "--mount", "sh", "-ec", _IN_PLACE, "sh", str(folder), *arguments]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, said = await process.communicate()
    return process.returncode or 0, output, said.decode()


def _settings(folder: Path, site: Site, identity: LinkIdentity) -> None:
    (folder / "cache").mkdir(exist_ok=True)
    options = " ".join(["--fail", *certificate_of(identity)])
    (folder / "default").write_text(
        f'BINARY=1\nWAIT=10\nDEVICE="/dev/urandom"\nPOOL=""\nSERVER="https://{site.tls}/?wait=5"\n'
        f'CURL_OPTS="{options}"\n'
    )


@pytest.mark.skipif(POLLINATE is None or os.geteuid() != 0, reason="needs pollinate and root")
def test_pollinate_is_seeded(folder: Path) -> None:
    """The unchanged script verifies our answer and seeds the kernel once."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            _settings(folder, site, await site.enrol("first-boot", quota="4KiB/day"))
            code, _, _ = await pollinate(folder, "--strict", "--quiet")
            log = (folder / "cache" / "log").read_text() if (folder / "cache" / "log").exists() else ""
            assert (code, "ERROR" in log) == (0, False)
            assert (folder / "cache" / "seeded").exists()
            own = {each["name"]: each for each in (await site.ask("status"))["consumers"]}["first-boot"]
            assert (own["draws"], own["full_bytes"]) == (1, 64)

            assert (await pollinate(folder, "--strict"))[0] == 0  # already seeded: no request
            own = {each["name"]: each for each in (await site.ask("status"))["consumers"]}["first-boot"]
            assert own["draws"] == 1

    asyncio.run(run())


@pytest.mark.skipif(POLLINATE is None or os.geteuid() != 0, reason="needs pollinate and root")
def test_pollinate_gets_another_seed_each_time_and_none_over_the_quota(folder: Path) -> None:
    """In test mode each seed is new; beyond the quota it fails with a message."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            _settings(folder, site, await site.enrol("first-boot", quota="192B/day"))
            seeds = [(await pollinate(folder, "--testing", "--strict"))[:2] for _ in range(3)]
            assert [(code, len(seed)) for code, seed in seeds] == [(0, 64)] * 3
            assert len({seed for _, seed in seeds}) == 3
            assert (await pollinate(folder, "--testing", "--strict"))[:2] == (1, b"")

    asyncio.run(run())


@needs_curl
def test_the_same_challenge_has_another_answer_each_time(folder: Path) -> None:
    """Line 1 proves that the answer is for this challenge, line 2 differs."""
    site = site_of(folder)

    async def run() -> None:
        async with running(site):
            await site.until_healthy(1, share=0.1)
            ask = ("--unix-socket", f"{folder}/http.sock", "--data", "challenge=abc", "http://localhost/")
            answers = [(await curl(*ask))[1].decode().splitlines() for _ in range(3)]
            assert {proof for proof, _ in answers} == {hashlib.sha512(b"abc").hexdigest()}
            assert len({seed for _, seed in answers}) == 3
            assert all(len(seed) == 128 for _, seed in answers)

    asyncio.run(run())
