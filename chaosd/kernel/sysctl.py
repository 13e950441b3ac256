"""A sysctl of a network namespace, set for a while."""

from __future__ import annotations

from chaosd.errors import UnsupportedError
from chaosd.kernel.edit import Edit, Undo
from chaosd.kernel.netns import NetnsRef, inside


def read(netns: NetnsRef, name: str) -> str:
    """What a sysctl such as ``net.ipv4.conf.lo.accept_local`` says in a namespace."""
    with inside(netns), open(_path(name), encoding="ascii") as file:
        return file.read().strip()


def _path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


class Sysctl(Edit, frozen=True, tag="sysctl"):
    """One value below /proc/sys/net; ``old`` was read when the run was planned.

    No edit is planned where the value is right already.
    """

    netns: NetnsRef
    name: str
    old: str
    new: str

    @property
    def slot(self) -> str:
        """The sysctl in its namespace."""
        return f"sysctl:{self.netns.inode}:{self.name}"

    def describe(self) -> str:
        """One line: old and new value."""
        return f"set {self.name} from {self.old} to {self.new}"

    def apply(self) -> None:
        """Write the new value."""
        try:
            self._write(self.new)
        except OSError as error:
            raise UnsupportedError(f"cannot set {self.name}: {error.strerror}") from None

    def _write(self, value: str) -> None:
        with inside(self.netns), open(_path(self.name), "w", encoding="ascii") as file:
            file.write(value)

    def revert(self) -> Undo:
        """Write the old value back, unless somebody has set another one since."""
        try:
            value = read(self.netns, self.name)
            if value == self.new:
                self._write(self.old)
        except FileNotFoundError:
            return Undo.GONE
        return {self.new: Undo.DONE, self.old: Undo.GONE}.get(value, Undo.FOREIGN)

    def present(self) -> bool:
        """Whether the new value is in force."""
        try:
            return read(self.netns, self.name) == self.new
        except FileNotFoundError:
            return False

    def surroundings(self) -> dict[str, str]:
        """The value itself."""
        try:
            return {f"sysctl {self.netns.inode} {self.name}": read(self.netns, self.name)}
        except FileNotFoundError:
            return {}
