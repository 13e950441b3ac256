"""What the faults on system calls share: which calls a user can name, and by which mechanism each is met."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.document import near
from chaosd.errors import ChaosdError, UnsupportedError
from chaosd.faults._network import reads, span
from chaosd.faults.base import Fault, Mechanism, Planning
from chaosd.kernel import arguments, hooks, launch, patterns, syscalls
from chaosd.kernel.capability_network import CONNECT
from chaosd.kernel.capability_syscalls import ERROR_INJECTION, KPROBE, LSM, SECURITY
from chaosd.kernel.edit import Edit
from chaosd.kernel.hooks import Hook, Way
from chaosd.kernel.injection import Injection
from chaosd.kernel.match import Filters, Rule, network
from chaosd.kernel.notify import NOTIFY, Notify
from chaosd.kernel.syscalls import Calls
from chaosd.kernel.tracing import PTRACE, Trace
from chaosd.targets.members import members
from chaosd.targets.model import Target
from chaosd.units import Percent

LADDER = (
    Mechanism(
        "override", (KPROBE | ERROR_INJECTION,), "at the entry of the call, before it has done anything"
    ),
    Mechanism("security", (SECURITY | LSM,), "where the kernel asks its security modules, inside the call"),
    Mechanism("cgroup", (CONNECT,), "programs on the cgroup, for IPv4 and IPv6 sockets"),
    Mechanism(
        "notify",
        (NOTIFY,),
        "a seccomp filter that stops these calls alone; for programs that `chaosd exec` starts",
        launched=True,
    ),
    Mechanism("ptrace", (PTRACE,), "a tracer that stops the target at each of its calls"),
)
NOT_OF_SOCKETS = (*LADDER[:2], *LADDER[3:])
"""For calls that are about no socket."""
_ONE_BY_ONE = ("notify", "ptrace")
_HIGHEST = 133  # EHWPOISON, include/uapi/asm-generic/errno.h
_VDSO = ("clock_gettime", "gettimeofday", "time", "getcpu")


class SyscallFault(Fault, frozen=True, kw_only=True):
    """Which calls of a target are hit; what is left out lets every one through."""

    mechanisms: ClassVar[tuple[Mechanism, ...]] = LADDER
    combines: ClassVar[bool] = True

    probability: Annotated[Percent, Meta(description="how likely each is hit")] = Percent(100)
    every: Annotated[int, Meta(description="only every n-th", ge=1)] = 1
    after: Annotated[int, Meta(description="pass over so many first", ge=0)] = 0
    first: Annotated[int, Meta(description="then only so many can be hit; 0 for all", ge=0)] = 0
    budget: Annotated[int, Meta(description="stop for good after so many hits; 0 for no limit", ge=0)] = 0
    path: Annotated[
        str, Meta(description="only this file or what is below it, or a pattern such as /etc/app/*.conf")
    ] = ""
    ports: Annotated[
        list[int | str], Meta(description="only sockets whose far end has these; of bind and listen: own")
    ] = []
    cidrs: Annotated[list[str], Meta(description="only sockets whose far end is there")] = []

    def words(self) -> Sequence[str]:
        """The calls or groups that are meant."""
        raise NotImplementedError

    def number(self) -> int:
        """The errno that the calls fail with; 0 if they are made."""
        raise NotImplementedError

    def check(self) -> list[str]:
        """Calls, errnos and filters that cannot be, or that have nothing to do with each other."""
        return list(_wrong(self))

    def calls(self, names: Iterable[str] = ()) -> Calls:
        """What is meant, of these calls or of all that were named."""
        sockets = Filters(ports=tuple(map(span, self.ports)), cidrs=tuple(self.cidrs))
        return Calls(tuple(names) or syscalls.expand(self.words()), self.path, sockets)

    def rule(self, at: Planning) -> Rule:
        """How many of them."""
        chance = self.probability.fraction
        return Rule(
            at.seed,
            chance,
            budget=self.budget,
            after=self.after,
            first=self.first,
            every=self.every,
            fault=at.index,
        )

    def choose(self) -> Mechanism:
        """The mechanisms for all the calls; see ``rungs``."""
        return Mechanism(" + ".join(rungs(self)))

    def plan(self, target: Target, at: Planning) -> Iterable[Edit]:
        """One edit for all that eBPF does, and one each for what a supervisor or a tracer must do."""
        found, who = rungs(self), members(target)
        in_kernel = {name: calls for name, calls in found.items() if name not in _ONE_BY_ONE}
        if in_kernel:
            names = [call for calls in in_kernel.values() for call in calls]
            places = tuple(
                dict.fromkeys(hook for name in in_kernel for hook in _hooks(name, in_kernel[name]))
            )
            yield Injection(at.run, at.index, who, self.calls(names), places, self.rule(at), self.number())
        if "notify" in found:
            calls, (first, *_) = self.calls(found["notify"]), target.require_processes()
            yield Notify(at.run, at.index, first, calls, self.rule(at), self.number(), *self.times())
        if "ptrace" in found:
            if who.spared:
                raise ChaosdError(
                    f"{', '.join(found['ptrace'])} could only be met by tracing, and not on the whole host",
                    hint="aim at a process, unit or container",
                )
            calls = self.calls(found["ptrace"])
            yield Trace(at.run, at.index, who, calls, self.rule(at), self.number(), *self.times())

    def times(self) -> tuple[float, float]:
        """For how long calls are held, and by how much that varies, in seconds."""
        return 0.0, 0.0

    def effect(self, target: Target, at: Planning) -> list[str]:
        """What the target gets, and what else comes with the mechanisms."""
        found = rungs(self)
        what = f"fail with {errno.errorcode[self.number()]}" if self.number() else "are held up"
        said = [f"{self.calls()} of {target.spec} {what}{self._share()}"]
        return said + [note for name, calls in found.items() for note in _notes(name, calls)]

    def _share(self) -> str:
        said = [f"{self.probability} of them"] if self.probability < 100 else []
        said += [f"one in {self.every}"] if self.every > 1 else []
        said += [f"after the first {self.after}"] if self.after else []
        said += [f"of {self.first}"] if self.first else []
        said += [f"{self.budget} in all"] if self.budget else []
        return f" ({', '.join(said)})" if said else ""


class FailingCalls(SyscallFault, frozen=True, kw_only=True):
    """Calls that fail with an errno; ``meant`` names them where the user does not."""

    meant: ClassVar[tuple[str, ...]] = ()

    errno: Annotated[str, Meta(description="errno by name, such as EIO")]

    def words(self) -> Sequence[str]:
        """Those of the class."""
        return self.meant

    def number(self) -> int:
        """Of the errno; 0 for any word that no call can return."""
        number = int(getattr(errno, self.errno, 0)) if self.errno in errno.errorcode.values() else 0
        return number if number <= _HIGHEST and self.errno != "ERESTART" else 0

    def check(self) -> list[str]:
        """Calls that there are, and an errno that they can return."""
        wrong = super().check()
        if not self.number():
            known = [name for number, name in errno.errorcode.items() if number <= _HIGHEST]
            wrong.append(f"errno: {self.errno!r} is unknown ({near(self.errno, known, 'man 3 errno')})")
        if self.errno == "EINTR" and "connect" in syscalls.expand(self.words() if not wrong else ()):
            wrong.append("errno: a caller takes EINTR of connect for a success in the making")
        return wrong


def rungs(fault: SyscallFault) -> dict[str, tuple[str, ...]]:
    """The best mechanism for each call, on this host and for what is asked.

    What counts over all calls is counted in one place: where a supervisor or a tracer is needed for one
    of them, and turns or a budget are asked for, it does all.

    Raises:
        ChaosdError: no such mechanism.
        UnsupportedError: no mechanism can, or not the one that was forced; the reasons say why.
    """
    ladder = [m for m in fault.mechanisms if fault.mechanism in ("", m.name)]
    if not ladder:
        known = ", ".join(m.name for m in fault.mechanisms)
        raise ChaosdError(f"{fault.name} has no mechanism {fault.mechanism!r}", hint=f"one of {known}")
    names = fault.calls().names
    found: dict[str, tuple[str, ...]] = {}
    for call in names:
        best = _best(fault, call, ladder)
        found[best] = (*found.get(best, ()), call)
    counted = fault.budget or fault.after or fault.first or fault.every > 1
    alone = next((name for name in _ONE_BY_ONE if name in found), "")
    return {alone: names} if alone and len(found) > 1 and counted else found


def _best(fault: SyscallFault, call: str, ladder: Iterable[Mechanism]) -> str:
    reasons = {}
    for mechanism in ladder:
        why = _cannot(mechanism.name, call, fault)
        if not (reason := [why] if why else mechanism.missing()):
            return mechanism.name
        reasons[mechanism.name] = ", ".join(reason)
    said = "; ".join(f"by {name}: {reason}" for name, reason in reasons.items())
    others = [m for m in fault.mechanisms if m.name not in reasons and not _cannot(m.name, call, fault)]
    could = " or ".join(m.name if not m.missing() else f"{m.name} (not on this host)" for m in others)
    hint = f"{could} could; leave mechanism out" if could else "see: chaosd doctor"
    raise UnsupportedError(f"{call} cannot be met here, {said}", hint=hint)


def _cannot(mechanism: str, call: str, fault: SyscallFault) -> str:
    """Why a mechanism cannot meet a call as it is asked for, on any kernel like this."""
    descriptor, address, message, _ = hooks.subject(call)
    of_socket = bool(fault.ports or fault.cidrs)
    if mechanism == "override":
        if not hooks.entries(call):
            return f"no function of this kernel is the entry of {call}"
        blind = (fault.path and not descriptor) or (of_socket and not (descriptor or address or message))
        return f"at its entry {call} has looked up no file yet" if blind else ""
    if mechanism == "security":
        if not hooks.places(call):
            return f"no security module is asked about {call}"
        return f"its hook knows no file for {call}" if fault.path and not hooks.has_file(call) else ""
    if mechanism == "notify":
        return "" if launch.current() else "only of a program that it starts itself (chaosd exec)"
    if mechanism == "rlimit":
        return "it takes all descriptors alike (say spare)"
    if mechanism == "cgroup":
        known = call in hooks.CGROUP and not fault.path
        return "" if known else "it knows socket, bind, connect and sends"
    return ""


def _hooks(mechanism: str, calls: Iterable[str]) -> Iterator[Hook]:
    for call in calls:
        if mechanism == "override":
            way: Way = "kprobe" if KPROBE().ok else "error-injection"
            yield from (Hook(way, function) for function in hooks.entries(call))
        elif mechanism == "security":
            way = "security" if SECURITY().ok else "lsm"
            yield from (Hook(way, function) for function in hooks.places(call).values())
        else:
            yield from (Hook("cgroup", program) for program in hooks.CGROUP[call])


def _notes(mechanism: str, calls: Sequence[str]) -> Iterator[str]:
    """What a user should know of a mechanism, for these calls."""
    if mechanism == "security" and set(calls) & set(syscalls.GROUPS["files.open"]):
        yield "an open fails after the file was looked up, and made if it was to be"
    if mechanism == "cgroup":
        yield f"{', '.join(calls)}: of IPv4 and IPv6; of sends only datagrams that name their destination"
    if mechanism == "notify":
        yield f"{', '.join(calls)}: by a supervisor; the command keeps a filter that lets everything pass"
    if mechanism == "ptrace":
        yield f"{', '.join(calls)}: by a tracer, which slows every system call of the target"
    if in_vdso := [call for call in calls if call in _VDSO]:
        yield f"{', '.join(in_vdso)}: most programs ask the vDSO and never enter the kernel"


def _wrong(fault: SyscallFault) -> Iterator[str]:
    try:
        names = syscalls.expand(fault.words())
    except ChaosdError as error:
        yield f"syscalls: {error}"
        return
    if not names:
        yield "syscalls: none are named (such as syscalls: [read, files.write])"
    yield from _wrong_filters(fault)
    if not fault.probability:
        yield "probability: 0% hits nothing"


def _wrong_filters(fault: SyscallFault) -> Iterator[str]:
    readers = (("ports", span, "5432 or 8000-8099"), ("cidrs", network, "10.0.0.0/8 or fd00::/8"))
    for name, how, such in readers:
        said = (text for text in getattr(fault, name) if not reads(how, text))
        yield from (f"{name}: {text!r} cannot be read (such as {such})" for text in said)
    if fault.path and (why := patterns.check(fault.path)):
        yield f"path: {why}"
        return
    if all(reads(span, port) for port in fault.ports):
        yield from arguments.refused(fault.calls())
