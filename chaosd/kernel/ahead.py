"""The probe that knows a target's processes, loaded before anybody needs it.

Most of the time until a network fault is live would go into loading it: libbpf reads all types of the kernel
to find the fields it uses. The process that others are forked from does that ahead, for the first of these
that takes it; no other gets it, because its maps belong to one run. It is attached to nothing until it is
taken, and gone with those who hold it.
"""

from __future__ import annotations

import os
import select
import struct
from contextlib import suppress

from chaosd.errors import UnsupportedError
from chaosd.kernel import bpf

_ONLY_TASKS = struct.pack("=I", 1)


class _Spare:
    def __init__(self) -> None:
        self.probe = bpf.Object("tag", _ONLY_TASKS)
        self._left = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # one for all who are forked from here

    def left(self) -> bool:
        return bool(select.select([self._left], [], [], 0)[0])

    def take(self) -> bool:
        with suppress(BlockingIOError):
            return bool(os.eventfd_read(self._left))
        return False

    def close(self) -> None:
        self.probe.close()
        os.close(self._left)


_stock: list[_Spare] = []


def stock() -> bool:
    """Have a probe ready for those who are forked from this process; nothing where the kernel refuses it.

    Returns:
        Whether it is another one than before.
    """
    if _stock and not _stock[0].left():
        _stock.pop().close()
    if not _stock:
        with suppress(UnsupportedError):  # who needs it will be told
            _stock.append(_Spare())
            return True
    return False


def tag() -> bpf.Object | None:
    """The probe that is ready, if nobody has taken it; ``tagger`` gives it to this process."""
    return _stock[0].probe if _stock and _stock[0].left() else None


def tagger(programs: tuple[str, ...]) -> bpf.Object:
    """The probe ``tag`` for some of the processes in a cgroup (``UnsupportedError`` if it is refused).

    Args:
        programs: of these there will be no less.
    """
    if _stock and (spare := _stock.pop()).take():
        return spare.probe
    return bpf.Object("tag", _ONLY_TASKS, programs=programs)
