"""Whether a DNS server answers a question as it should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from chaosd.checks.base import Check, Failed, PerSecond, Reading

if TYPE_CHECKING:
    from dns.message import Message

_RESOLVERS = "/etc/resolv.conf"


class Dns(Check, frozen=True, kw_only=True):
    """The server answers with this ``status``, and with each of ``answer`` among its records.

    One question over UDP, again over TCP when the answer was cut short; no cache is asked.
    """

    kind: ClassVar[str] = "dns"

    query: Annotated[
        str, Meta(min_length=1, max_length=253, pattern=r"\A[!-~]+\Z", description="the name asked for")
    ]
    type: Literal["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] = "A"
    server: Annotated[str, Meta(description="address of the server; by default the host's first")] = ""
    port: Annotated[int, Meta(ge=1, le=65535)] = 53
    status: Literal["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"] = "NOERROR"
    answer: Annotated[list[str], Meta(description="records that must be there, such as 10.0.0.7")] = []
    rate: PerSecond = 2.0

    def describe(self) -> str:
        """What must hold."""
        having = f" with {', '.join(self.answer)}" if self.answer else ""
        of = f"{self.server}:{self.port}" if self.server else "the host's server"
        return f"dns {self.type} {self.query} of {of} gives {self.status}{having} within {self.within}"

    def check(self) -> list[str]:
        """Whether name and address are such."""
        import dns.exception
        import dns.inet
        import dns.name

        wrong = []
        try:
            dns.name.from_text(self.query)
        except (dns.exception.DNSException, UnicodeError) as error:
            wrong.append(f"query: {self.query!r} is not a name: {error}")
        if self.server and not dns.inet.is_address(self.server):
            wrong.append(f"server: {self.server!r} is not an address (such as 10.0.0.2)")
        return wrong

    def prepare(self) -> None:
        """Load the library, which takes longer than many a probe."""
        import dns.query
        import dns.rdtypes.IN.A  # noqa: F401 - loaded by name at the first answer otherwise

    def measure(self) -> Reading:
        """Ask once."""
        import dns.exception
        import dns.rcode

        try:
            found = self._ask()
        except dns.exception.Timeout:
            raise TimeoutError from None
        except dns.exception.DNSException as error:
            raise Failed(f"broken answer: {type(error).__name__}", answered=True) from None
        status = dns.rcode.to_text(found.rcode())
        records = sorted(record.to_text() for part in found.answer for record in part)
        said = f"{status}: {', '.join(records)}" if records else status
        missing = [text for text in self.answer if text not in records]
        if status != self.status or missing:
            raise Failed(f"{said}, without {missing[0]}" if missing else said, answered=True)
        return Reading(said)

    def _ask(self) -> Message:
        import dns.message
        import dns.query

        question = dns.message.make_query(self.query, self.type)
        server = self.server or _first_resolver()
        return dns.query.udp_with_fallback(question, server, timeout=self.within, port=self.port)[0]


def _first_resolver() -> str:
    with open(_RESOLVERS, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                return words[1]
    raise Failed(f"{_RESOLVERS} names no server")
