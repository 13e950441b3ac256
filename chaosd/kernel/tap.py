"""TAP devices that live no longer than a descriptor: how to make, recognize and find the holder of one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from array import array
from collections.abc import Iterator
from ctypes import CDLL, get_errno
from threading import Thread

from chaosd.errors import ChaosdError, ForeignStateError, UnsupportedError
from chaosd.kernel.capability import Verdict, capability
from chaosd.kernel.netns import NetnsRef, inside

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_CHECKSUM_AND_TSO = 0x01 | 0x02 | 0x04 | 0x08  # TUN_F_CSUM, TSO4, TSO6, TSO_ECN
_USO = 0x20 | 0x40  # TUN_F_USO4, USO6: from Linux 6.2
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFMTU, _SIOCSIFTXQLEN = 0x8913, 0x8914, 0x8922, 0x8943
_SIOCETHTOOL, _ETHTOOL_GDRVINFO, _DRVINFO_SIZE = 0x8946, 3, 196
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_MTU = 65521  # the most a TAP takes: IP_MAX_MTU less the Ethernet header (tun_net_initialize)
_RING = 8192  # frames that wait for the reader; beyond it the device drops (tx_dropped)


def open_in(netns: NetnsRef) -> int:
    """A descriptor that can become a TAP device of this namespace, and is none yet.

    Raises:
        FileNotFoundError: the namespace is gone.
        UnsupportedError: this kernel has no TUN/TAP.
    """
    with inside(netns):  # which the descriptor belongs to from now on (tun_chr_open)
        return _open()


def create(fd: int, netns: NetnsRef, name: str, *, offload: bool) -> None:
    """Make a TAP device of a descriptor and set it up; it is gone when that is closed everywhere.

    Each frame is read and written behind a virtio_net_hdr of 10 bytes. With ``offload`` it may be
    a GSO packet of 64 KiB without checksums; without, it is as it would be on the wire. The device
    has no address of any kind, so nothing but what is redirected to it goes through it.

    Raises:
        FileNotFoundError: the namespace is gone.
        ForeignStateError: a device of this name exists.
    """
    with inside(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if _flags(sock, name) is not None:
            raise ForeignStateError(f"there is a device {name} already", hint="chaosd revert --scrub")
        try:
            fcntl.ioctl(fd, _TUNSETIFF, _request(name, "H", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
            if offload:
                _set_offload(fd)
            _bring_up(sock, name)
        except OSError as error:
            raise ChaosdError(f"cannot make TAP device {name}: {error.strerror}") from error


def _open() -> int:
    try:
        return os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = "modprobe tun" if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO) else "run as root"
        raise UnsupportedError(f"cannot open /dev/net/tun: {error.strerror}", hint=hint) from error


def _set_offload(fd: int) -> None:
    try:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _CHECKSUM_AND_TSO | _USO)
    except OSError:
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _CHECKSUM_AND_TSO)


def _bring_up(sock: socket.socket, name: str) -> None:
    fcntl.ioctl(sock, _SIOCSIFMTU, _request(name, "i", _MTU))
    fcntl.ioctl(sock, _SIOCSIFTXQLEN, _request(name, "i", _RING))
    try:
        # An address would bring router solicitations and multicast reports of the device's own.
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")
    except FileNotFoundError:
        pass  # a kernel without IPv6
    fcntl.ioctl(sock, _SIOCSIFFLAGS, _request(name, "H", (_flags(sock, name) or 0) | _IFF_UP | _IFF_NOARP))


def _request(name: str, form: str, value: int) -> bytes:
    return struct.pack(f"16s{form}", name.encode(), value).ljust(40, b"\0")


def _flags(sock: socket.socket, name: str) -> int | None:
    try:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, _request(name, "H", 0))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
    return int(struct.unpack_from("H", answer, 16)[0])


def kind(netns: NetnsRef, name: str) -> str:
    """What a device is: ``tap``, anything else the driver says, or nothing when there is none.

    Raises:
        FileNotFoundError: no path leads to the namespace.
    """
    with inside(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if _flags(sock, name) is None:
            return ""
        info = array("B", struct.pack("=I", _ETHTOOL_GDRVINFO).ljust(_DRVINFO_SIZE, b"\0"))
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, _request(name, "P", info.buffer_info()[0]))
        except OSError as error:
            return "" if error.errno == errno.ENODEV else "unknown"
    driver, bus = (info.tobytes()[start : start + 32].rstrip(b"\0").decode() for start in (4, 100))
    return bus if driver == "tun" else driver or "unknown"


def drops(netns: NetnsRef, name: str) -> int:
    """Frames a device dropped on transmission; for a TAP those that its reader was too slow for."""
    with inside(netns), open("/proc/thread-self/net/dev", encoding="ascii") as file:
        for line in file:
            device, _, numbers = line.partition(":")
            if device.strip() == name:
                return int(numbers.split()[11])
    return 0


def holders(name: str) -> Iterator[int]:
    """Processes that have a TAP device of this name open, in whatever namespace it is."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if any(_names(f"/proc/{pid}/fdinfo/{fd}", name) for fd in os.listdir(f"/proc/{pid}/fdinfo")):
                yield int(pid)
        except OSError:
            continue  # it has ended meanwhile


def _names(path: str, name: str) -> bool:
    with open(path, encoding="ascii", errors="replace") as file:
        return f"iff:\t{name}\n" in file.read()  # tun_chr_show_fdinfo


@capability("tap", lasting=True)
def TAP() -> Verdict:  # noqa: N802  # a capability is a constant
    """Whether a TAP device can be made, tried in a namespace of its own."""
    verdicts: list[Verdict] = []
    thread = Thread(target=lambda: verdicts.append(_try()))  # its namespace ends with it
    thread.start()
    thread.join()
    return verdicts[0]


def _try() -> Verdict:
    try:
        if CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            return Verdict(ok=False, reason=f"no network namespace: {os.strerror(get_errno())}")
        scratch = NetnsRef.at("/proc/thread-self/ns/net")
        fd = open_in(scratch)
        try:
            create(fd, scratch, "chaosd-try", offload=True)
        finally:
            os.close(fd)
    except UnsupportedError as error:
        return Verdict(ok=False, reason=error.message, mend=error.hint)
    except (ChaosdError, OSError) as error:
        return Verdict(ok=False, reason=str(error))
    return Verdict(ok=True)
