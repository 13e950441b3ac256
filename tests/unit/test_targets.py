"""Words for targets: whatever is written, the answer is a target or one line."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chaosd.errors import ChaosdError, Exit, UnsupportedError
from chaosd.kernel.cgroup import CgroupRef
from chaosd.kernel.process import ProcessRef
from chaosd.targets.build import manager_of, suggest
from chaosd.targets.model import Target
from chaosd.targets.operator import established
from chaosd.targets.resolve import KINDS, resolve
from chaosd.targets.units import fields

WORDS = st.one_of(
    st.text(),
    st.builds("{}:{}".format, st.sampled_from(sorted(KINDS)), st.text()),
    st.builds("dev:lo@{}".format, st.text()),
    st.builds("{}:{}".format, st.sampled_from(["pid", "netns", "dev"]), st.integers()),
    st.builds("{}:{}".format, st.sampled_from(["cgroup", "netns"]), st.text("./abc\0", min_size=1)),
    st.builds("{}:{}".format, st.sampled_from(["container", "unit"]), st.text("a-.@/*", min_size=1)),
)


@pytest.fixture
def _no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")


@pytest.mark.usefixtures("_no_engine")
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WORDS)
@example("pid:\udcff")
@example("pid:١٢")
@example("pid:" + "9" * 400)
@example("comm:" + "x" * 400)
@example("cgroup:" + "x" * 400)
@example("cgroup:" + "/x" * 4000)
@example("cgroup:../../etc")
@example("netns:..")
@example("netns:/dev/tty")
@example("netns:" + "x" * 400)
@example("dev:lo@" + "x" * 400)
@example("dev:lo@dev:lo@dev:lo")
@example("unit:--help")
@example("container:../json")
def test_any_word_is_a_target_or_one_line(word: str) -> None:
    """No word gives a traceback, and every refusal is one line that says what would be right."""
    found = _try(word)
    if isinstance(found, Target):
        assert found.spec == word
    else:
        assert found.exit in (Exit.REFUSED, Exit.UNSUPPORTED)
        assert found.message.isprintable(), "one line, with nothing that upsets a terminal"
        assert found.hint.isprintable()


def _try(word: str) -> Target | ChaosdError:
    try:
        return resolve(word)
    except ChaosdError as refused:
        return refused


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("pod:api", "did you mean pid:, such as pid:1234"),
        ("containr:api", "did you mean container:"),
        ("Unit:nginx", "did you mean unit:"),
        ("1234", "did you mean pid:1234?"),
        ("nginx", "one of pid:1234, comm:nginx"),
        ("host:", "write host alone"),
        ("pid", "such as pid:1234"),
        ("pid:", "'pid:' names nothing"),
        ("pid:-1", "'-1' is not a pid"),
        ("pid:0", "'0' is not a pid"),
        ("dev:no such", "there is no interface 'no such'"),
        ("cgroup:../..", "there is no cgroup"),
        ("netns:/etc/passwd", "is not a network namespace"),
        ("netns:/proc/self/ns/uts", "is not a network namespace"),
        ("container:a b", "is not the name of a container"),
        ("unit:a b", "is not the name of a unit"),
    ],
)
def test_a_wrong_word_is_told_what_would_be_right(word: str, said: str) -> None:
    """The refusal names the mistake and a way to write it."""
    with pytest.raises(ChaosdError) as refused:
        resolve(word)
    assert said in str(refused.value)
    assert refused.value.exit is Exit.REFUSED


@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs this host")
def test_a_unit_needs_systemd() -> None:
    """Without systemd the refusal says so and names the other ways."""
    with pytest.raises(UnsupportedError, match=r"systemd does not run this host .*cgroup:"):
        resolve("unit:nginx")


def test_host_is_the_whole_namespace() -> None:
    """``host`` has the namespace, and no processes or cgroups that could be taken one by one."""
    target = resolve("host")
    assert target.own_netns
    assert target.netns is not None
    assert target.netns.inode == os.stat("/proc/self/ns/net").st_ino
    assert not target.processes
    assert not target.cgroups
    with pytest.raises(ChaosdError, match="host has no processes"):
        target.require_processes()
    target.check_alive()


def test_a_target_hands_out_its_processes() -> None:
    """What needs processes gets them when there are some."""
    assert Target("x", processes=(ProcessRef(1, 2),)).require_processes() == (ProcessRef(1, 2),)


@pytest.mark.parametrize(
    ("path", "manager"),
    [
        ("/sys/fs/cgroup/docker/" + "0a" * 32, "container:" + "0a" * 32),
        ("/sys/fs/cgroup/system.slice/docker-" + "0a" * 32 + ".scope", "container:" + "0a" * 32),
        ("/sys/fs/cgroup/machine.slice/libpod-" + "0a" * 32 + ".scope", "container:" + "0a" * 32),
        ("/sys/fs/cgroup/system.slice/nginx.service", "unit:nginx.service"),
        ("/sys/fs/cgroup/system.slice/nginx.service/worker", ""),
        ("/sys/fs/cgroup/mine", ""),
    ],
)
def test_who_manages_a_cgroup_shows_in_its_name(path: str, manager: str) -> None:
    """Engines name cgroups by the container's id, systemd by the unit; below is nobody's."""
    assert manager_of({"": CgroupRef(path, 1)}) == manager


def test_suggestions() -> None:
    """Near names first, all of a few else, and the fallback when there is nothing or too much."""
    assert suggest("ngin", ["nginx", "redis"], "comm:") == "did you mean comm:nginx?"
    assert suggest("zzz", ["nginx", "redis"], "comm:") == "there are nginx, redis"
    assert suggest("zzz", [], "comm:", "see: ps") == "see: ps"
    assert suggest("zzz", (f"name{n}" for n in range(50)), "comm:", "see: ps") == "see: ps"
    assert suggest("zzz", ["evil\nname"], "comm:", "see: ps") == "see: ps"


def test_systemctl_properties() -> None:
    """A value may hold an equals sign; an empty one stays empty."""
    assert fields("Id=a.service\nControlGroup=\nX=b=c\n") == {
        "Id": "a.service",
        "ControlGroup": "",
        "X": "b=c",
    }


def test_established_peers() -> None:
    """Only sockets that are established and theirs; mapped addresses as plain IPv4."""
    rows = [
        ("0100007F:0016", "0A63630A:C001", "01", "11"),
        ("0100007F:0016", "0B63630A:C001", "0A", "11"),
        ("0100007F:0016", "0C63630A:C001", "01", "99"),
        ("0" * 32 + ":0016", "0000000000000000FFFF00000D63630A:C001", "01", "11"),
        ("0" * 32 + ":0016", "000080FE000000000000000001000000:C001", "01", "11"),
    ]
    lines = [f"0: {here} {peer} {state} 0:0 0:0 0 0 0 {inode}" for here, peer, state, inode in rows]
    assert list(established(lines, {"11"})) == ["10.99.99.10", "10.99.99.13", "fe80::1"]
