"""What checks of database servers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from msgspec import Meta

from chaosd.checks.base import AbsolutePath, Check, Failed, Reading
from chaosd.checks.figures import NUMBER, Expectation, Figure


class DatabaseCheck(Check, frozen=True, kw_only=True):
    """A server over TCP, or over a socket when ``host`` is a path; each probe connects anew."""

    gives: ClassVar[Mapping[str, Figure]] = {"value": Figure(NUMBER, "what was answered, if it is a number")}

    host: Annotated[str, Meta(min_length=1, max_length=253, description="name, address or path of a socket")]
    user: Annotated[str, Meta(description="whom to log in as")] = ""
    password_file: Annotated[AbsolutePath, Meta(description="its first line is the password")] = AbsolutePath(
        ""
    )
    tls: Annotated[bool, Meta(description="encrypted, and the server's certificate must be good")] = False
    expect: Annotated[Expectation, Meta(description="what the number must be, such as < 100")] = Expectation()

    @property
    def executes(self) -> str:
        """The file of the password, which the server gets to see."""
        return self.password_file

    def password(self) -> str | None:
        """The password, None when there is none; read anew for each probe.

        Raises:
            OSError: the file cannot be read.
        """
        if not self.password_file:
            return None
        with open(self.password_file, encoding="utf-8", errors="replace") as file:
            return file.readline().rstrip("\n")

    def judge(self, said: str, number: object) -> Reading:
        """A good answer as a reading, when its number is as expected.

        Args:
            said: the answer in a few words.
            number: the number in it; whatever else there is counts as none.

        Raises:
            Failed: it is not as expected.
        """
        try:
            value = float(number)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            if self.expect:
                raise Failed(f"{said} is not a number", answered=True) from None
            return Reading(said)
        if wrong := self.expect.wrong(value):
            raise Failed(wrong, answered=True, figures={"value": value})
        return Reading(said, {"value": value})
