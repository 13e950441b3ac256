"""Who may do what, by the kernel's word or a certificate; and what nobody can have root do."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import URLError

import daemonized
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from daemonized import GROUP, MEMBER, MEMBERS, NOBODY, PAUSE, Daemon, as_user

from chaosd.daemon.api import ENDPOINTS


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with daemonized.daemon("allow: [/bin/true]\n") as made:
        yield made


def test_who_is_not_in_the_group_cannot_even_connect(daemon: Daemon) -> None:
    def attempt() -> str:
        try:
            daemon.ask("GET", "/v1/status")
        except OSError as error:
            return type(error).__name__
        return "answered"

    assert as_user(NOBODY, NOBODY, attempt) == "PermissionError"
    assert as_user(NOBODY, MEMBERS, attempt) == "answered"


def test_who_could_connect_gets_403_and_nothing_else(daemon: Daemon) -> None:
    daemon.socket.chmod(0o666)
    try:
        found = as_user(
            NOBODY, NOBODY, lambda: [daemon.ask(e.method, _filled(e.path), {}) for e in ENDPOINTS]
        )
    finally:
        daemon.socket.chmod(0o660)
    said = {"hint": f"root and members of the group {GROUP} may", "exit": 2}
    assert len(found) == len(ENDPOINTS)
    for endpoint, (status, problem) in zip(ENDPOINTS, found, strict=True):
        assert status == 403, endpoint.path
        assert problem == said | {"error": f"nobody may not {endpoint.may}"}


def _filled(path: str) -> str:
    return path.replace("{run}", "abcdef").replace("{suite}", "abcdef").replace("{", "").replace("}", "")


def test_everybody_may_look_where_it_is_configured() -> None:
    with daemonized.daemon("readers: everybody\n") as daemon:
        found = as_user(NOBODY, NOBODY, lambda: [daemon.ask(e.method, _filled(e.path), {}) for e in ENDPOINTS
                                                 if "events" not in e.path])  # fmt: skip
        allowed = [e for e in ENDPOINTS if "events" not in e.path]
        for endpoint, (status, _) in zip(allowed, found, strict=True):
            assert (status == 403) == (endpoint.may == "act"), endpoint.path


def test_a_member_of_the_group_does_everything_by_commands(daemon: Daemon) -> None:
    pid = daemon.sleeper()
    target = ("--target", f"pid:{pid}")
    words = ("inject", "process.pause", *target, "--duration", "300ms")
    status, out = daemon.command(*words, within=MEMBER)
    assert (status, "passed" in out) == (0, True), out
    status, out = daemon.command(*words, "--dry-run", "--json", within=MEMBER)
    assert json.loads(out)["faults"][0]["target"] == f"pid:{pid}"
    run = json.loads(daemon.command("history", "--json", within=MEMBER)[1])[0]["run"]
    assert f"run {run}" in daemon.command("report", run, within=MEMBER)[1]
    assert f'"run": "{run}"' in daemon.command("report", run[:4], "--json", within=MEMBER)[1]
    assert "against" in daemon.command("report", run, "--against", run, "--format", "html", within=MEMBER)[1]
    run = daemon.pause(pid)
    daemon.wait_phase(run, "fault")
    assert f"run {run}" in daemon.command("status", within=MEMBER)[1]
    assert daemon.command("stop", within=MEMBER) == (0, "stopped; host restored\n")
    assert daemon.command("revert", "--all", within=MEMBER) == (0, "nothing to put back\n")
    assert "no run is live" in daemon.command("status", within=MEMBER)[1]
    status, out = daemon.command("stop", "abcdef", within=MEMBER)
    assert (status, "no live run 'abcdef'" in out) == (2, True)


def test_no_program_and_no_file_but_what_is_allowed_is_used(daemon: Daemon, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    target = {"target": f"pid:{daemon.sleeper()}"}

    def text(argv: list[str]) -> str:
        return PAUSE.format(duration="100ms") + f"observe: [{{command: {{argv: {json.dumps(argv)}}}}}]\n"

    order = {"text": text(["/bin/touch", str(ran)]), **target}
    for path in ("/v1/plans", "/v1/runs"):
        status, problem = daemon.ask("POST", path, order)
        assert (status, problem["error"]) == (403, "the daemon may not use /bin/touch")
    assert daemon.post("/v1/plans", {"text": text(["/bin/true"]), **target})
    probe = "name: x\nduration: 1s\nfaults: [{probe.custom: {source: /etc/shadow}}]\n"
    assert daemon.ask("POST", "/v1/plans", {"text": probe, **target})[0] == 403
    assert not ran.exists()


def test_a_relative_source_is_that_of_the_caller(daemon: Daemon) -> None:
    target = ("--target", f"pid:{daemon.sleeper()}")
    (daemon.folder / "probing.yaml").write_text(
        "name: probing\nduration: 1s\nfaults: [{probe.custom: {source: own.c}}]\n", "utf-8"
    )
    (daemon.folder / "suite.yaml").write_text("name: mine\nscenarios: [probing.yaml]\n", "utf-8")
    for words in (
        ("run", "probing.yaml", *target),
        ("inject", "probe.custom", "source=own.c", *target, "--duration", "1s"),
        ("suite", "suite.yaml", *target),
    ):
        status, out = daemon.command(*words, within=MEMBER)
        assert (status, f"the daemon may not use {daemon.folder}/own.c" in out) == (2, True), out


def test_no_file_is_read_for_a_client(daemon: Daemon, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("name: topsecret\nduration: 1s\nfaults: [process.pause]\n", "utf-8")
    (daemon.folder / "near.yaml").write_text(secret.read_text("utf-8"), "utf-8")  # where the daemon runs
    for word in (str(secret), "near.yaml", "../etc/passwd"):
        answers = [
            daemon.ask("POST", "/v1/scenarios/validate", {"scenario": word}),
            daemon.ask("POST", "/v1/suites", {"text": f"name: x\nscenarios: [{json.dumps(word)}]\n"}),
            daemon.ask(
                "POST", "/v1/suites", {"text": f"name: x\nscenarios: [{{{json.dumps(word)}: {{}}}}]\n"}
            ),
            daemon.ask("POST", "/v1/suites", {"category": word}),
            daemon.ask("GET", f"/v1/scenarios/{word.replace('/', '%2F')}"),
            daemon.ask("GET", f"/v1/runs/{word.replace('/', '%2F')}/report"),
        ]
        for status, said in answers:
            assert status in (404, 422)
            assert "topsecret" not in json.dumps(said)


def test_nobody_can_say_who_he_is_but_the_kernel(daemon: Daemon) -> None:
    forged = {"x-forwarded-for": "1:0:0", "forwarded": "for=1:0:0"}
    daemon.socket.chmod(0o666)

    def attempt() -> int:
        connection = daemonized.Connection(daemon.socket)
        connection.request("GET", "/v1/status", headers=forged)
        return connection.getresponse().status

    try:
        assert as_user(NOBODY, NOBODY, attempt) == 403
    finally:
        daemon.socket.chmod(0o660)


def _certificate(folder: Path, name: str, signed_by: str | None) -> None:
    """A key and a certificate, in NAME.key and NAME.pem, good for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing = subject, key
    if signed_by is not None:
        issuer = x509.load_pem_x509_certificate((folder / f"{signed_by}.pem").read_bytes()).subject
        loaded = serialization.load_pem_private_key((folder / f"{signed_by}.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        signing = loaded
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=signed_by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(signing, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / f"{name}.key").write_bytes(pem)


def test_tcp_is_for_certificates_of_one_authority_alone(tmp_path: Path) -> None:
    for name, signer in (
        ("ca", None),
        ("daemon", "ca"),
        ("client", "ca"),
        ("other", None),
        ("forged", "other"),
    ):
        _certificate(tmp_path, name, signer)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tcp = (
        f"tcp: {{port: {port}, certificate: {tmp_path}/daemon.pem, key: {tmp_path}/daemon.key, "
        f"authority: {tmp_path}/ca.pem}}\n"
    )
    with daemonized.daemon(tcp):

        def ask(client: str | None) -> int:
            context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
            if client:
                context.load_cert_chain(tmp_path / f"{client}.pem", tmp_path / f"{client}.key")
            with urllib.request.urlopen(f"https://localhost:{port}/v1/status", context=context) as answer:
                return int(answer.status)

        assert ask("client") == 200
        for stranger in (None, "forged"):
            with pytest.raises((URLError, OSError)):
                ask(stranger)
        with pytest.raises((URLError, OSError)):
            urllib.request.urlopen(f"http://localhost:{port}/v1/status", timeout=10)


def test_a_second_daemon_does_not_take_the_socket(daemon: Daemon) -> None:
    status, out = daemon.command("daemon", "--config", str(daemon.config))
    assert (status, "another daemon serves" in out) == (2, True)
    with suppress(subprocess.TimeoutExpired):
        daemon.process.wait(0.1)
    assert daemon.serves()
