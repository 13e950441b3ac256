"""Load that is real: CPU time burned, memory held, disk space taken, by a process of our own.

The kernel owns the undo: the process dies with the engine (PR_SET_PDEATHSIG), and with it goes
everything it holds; its file has no name. It is what the OOM killer takes first, and it obeys a
lease: an engine that does not renew it has no load two seconds later.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from chaosd.errors import ChaosdError, ForeignStateError
from chaosd.kernel import load_child
from chaosd.kernel.cgroup import CgroupRef, write
from chaosd.kernel.edit import Control, Edit, Evidence, Undo
from chaosd.kernel.filesystem import mount_of, opened
from chaosd.kernel.load_child import Child
from chaosd.kernel.process import ProcessRef
from chaosd.units import Duration, Size

_AWAKE_WITHIN = 10.0  # where nobody has waited for ``ready``
_children: dict[Load, Child] = {}


class Burn(msgspec.Struct, frozen=True, tag="cpu"):
    """CPU time; each of ``shares`` (0 to 1) is that of a process, which may run on ``cpus``, or on all."""

    unit: ClassVar[str] = "CPU milliseconds"

    shares: tuple[float, ...]
    cpus: tuple[int, ...] = ()

    def describe(self) -> str:
        """How much, and where."""
        where = f" on CPUs {', '.join(map(str, self.cpus))}" if self.cpus else ""
        return f"burn the time of {sum(self.shares):.4g} CPUs{where}"


class Hold(msgspec.Struct, frozen=True, tag="memory"):
    """Memory: ``size`` bytes at once, or ``step`` bytes ``every`` so many seconds up to that.

    It is given back while the host has less than ``floor`` bytes available.
    """

    unit: ClassVar[str] = "bytes"

    size: int
    floor: int
    step: int = 0
    every: float = 0.0

    def describe(self) -> str:
        """How much, and how fast."""
        if not self.every:
            return f"hold {Size(self.size)} of memory"
        return f"take {Size(self.step)} of memory every {Duration(self.every)}, up to {Size(self.size)}"


class Fill(msgspec.Struct, frozen=True, tag="disk"):
    """Space of a file system, until ``leave`` bytes are left.

    Args:
        path: a folder on it, as the process ``root`` sees it, or as the host does.
        mount, device: what was found there, mount id and MAJOR:MINOR.
        leave: bytes that stay free, for everybody or, with ``reserve``, for root.
        floor: bytes of memory that stay available, for a file system in memory.
    """

    unit: ClassVar[str] = "bytes"

    path: str
    mount: int
    device: str
    leave: int
    reserve: bool = False
    root: ProcessRef | None = None
    floor: int = 0

    def describe(self) -> str:
        """Of what, and how much is left."""
        return f"fill the file system of {self.path} ({self.device}) but for {Size(self.leave)}"


class Load(Edit, frozen=True, tag="process.load"):
    """A process that is a load, in the cgroups ``places`` and in ``group``, one that an edit before made.

    Args:
        run, index: as in Planning.
        work: what it does.
        places: cgroups it is moved into, one of a hierarchy at most.
        group: the path of a cgroup of our own.

    Apply it in the engine's main thread: PR_SET_PDEATHSIG fires when the creating *thread* ends.
    """

    run: str
    index: int
    work: Burn | Hold | Fill
    places: tuple[CgroupRef, ...] = ()
    group: str = ""

    @property
    def slot(self) -> str:
        """Its own name, or the free space of the file system it fills."""
        if isinstance(self.work, Fill):
            return f"space:{self.work.device}"
        return f"load:{self.run}:{self.index}"

    def describe(self) -> str:
        """What is done, and where."""
        where = [ref.path for ref in self.places] + [self.group] * bool(self.group)
        return self.work.describe() + (f", in {' and '.join(where)}" if where else "")

    def prepare(self) -> None:
        """Start the process, which does nothing yet."""
        if self not in _children:
            _children[self] = self._start()

    def ready(self) -> bool:
        """Whether the process is there: in the target's cgroup it may get little CPU time to start with.

        Raises:
            ChaosdError: it did not start.
        """
        return self not in _children or _children[self].awake()

    def _start(self) -> Child:
        told: dict[str, Any] = msgspec.to_builtins(self.work)
        if not isinstance(self.work, Fill):
            return Child(self.run, self.index, told)
        work, root = self.work, self.work.root
        with opened(work.path, root) as folder:
            found = mount_of(folder, root.pid if root else "self")
            if (found.number, found.device) != (work.mount, work.device):
                raise ForeignStateError(
                    f"{work.path} is on another file system now, {found.point}", hint="plan again"
                )
            return Child(self.run, self.index, told, folder)

    def apply(self) -> None:
        """Put it into its cgroups and let it begin; it gets to work with the first ``renew``.

        Raises:
            ForeignStateError: another file system is at the path by now.
            ChaosdError: a cgroup does not take it, or it cannot do what it is to.
        """
        self.prepare()
        child = _children[self]
        if not child.awake(_AWAKE_WITHIN):
            raise ChaosdError(f"the process of the load is not there after {_AWAKE_WITHIN:g} s")
        groups = [*self.places, *([CgroupRef.at(self.group)] if self.group else [])]
        for ref in groups:
            try:
                write(ref, "cgroup.procs", str(child.process.pid))
            except OSError as error:
                said = f"{ref.path} does not take the process of the load: {error.strerror}"
                raise ChaosdError(said, hint="aim at a cgroup that holds processes") from error
        child.begin()

    def revert(self) -> Undo:
        """End the process; what it held goes with it.

        Raises:
            TimeoutError: it does not end within 2 s.
        """
        found = self.present()
        if self in _children:
            _children[self].close()
            del _children[self]
        load_child.end(self.run, self.index)
        return Undo.DONE if found else Undo.GONE

    def present(self) -> bool:
        """Whether its process is there."""
        return any(load_child.processes(self.run, self.index))

    def lost(self) -> str:
        """Why it is no load any more; empty while all is well."""
        child = _children.get(self)
        if child is None:
            return "" if self.present() else "its process is gone"
        return child.problem()

    def renew(self, until: float) -> None:
        """Let it go on until a moment of CLOCK_BOOTTIME, in seconds; then everything is given back."""
        if self in _children:
            _children[self].order(until=until)

    @property
    def control(self) -> Control:
        """Any strength."""
        return "dial"

    def scale(self, strength: float, share: float) -> None:
        """Make it weaker or stronger: 0 holds and burns nothing, 1 is as planned."""
        if self in _children:
            _children[self].order(level=strength)

    def evidence(self) -> Evidence | None:
        """What was asked for and what was had at most, in this process; the rest others did not give."""
        if self not in _children:
            return None
        asked, had = _children[self].page.counts()
        return Evidence(asked, had, {"not to be had": asked - had} if asked > had else {}, self.work.unit)
