"""What the faults on system calls share: which calls a user can name, and by which mechanism each is met."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.faults._network import span
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel import hooks, patterns, syscalls
from chaosd.kernel.capability import Capability
from chaosd.kernel.capability_network import CONNECT
from chaosd.kernel.capability_syscalls import ERROR_INJECTION, KPROBE, LSM, SECURITY
from chaosd.kernel.edit import Edit
from chaosd.kernel.hooks import Hook, Way
from chaosd.kernel.injection import Injection
from chaosd.kernel.match import Filters, Rule, network
from chaosd.kernel.refusal import CALLS, Refusal
from chaosd.kernel.syscalls import Calls
from chaosd.targets.members import members
from chaosd.targets.model import Target
from chaosd.units import Percent

MECHANISMS = (
    Mechanism("override", (KPROBE | ERROR_INJECTION,), "at the entry of the call, before it has done anything"),
    Mechanism("security", (SECURITY | LSM,), "where the kernel asks its security modules, inside the call"),
    Mechanism("cgroup", (CONNECT,), "programs on the cgroup, for IPv4 and IPv6 sockets"),
)
_NO_ERRNO = ("ERESTART",)
