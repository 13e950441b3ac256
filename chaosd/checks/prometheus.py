"""What a Prometheus server says of an expression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from chaosd.checks.base import Check, Failed, Reading
from chaosd.checks.figures import NUMBER, Expectation, Figure
from chaosd.checks.http import Header, Text, Url, fetch


class _Data(msgspec.Struct):
    resultType: str = ""  # noqa: N815 - Prometheus' word
    result: list[Any] = []


class _Answer(msgspec.Struct):
    """An answer of the HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api/."""

    status: str = ""
    error: str = ""
    data: _Data = msgspec.field(default_factory=_Data)


class Prometheus(Check, frozen=True, kw_only=True):
    """``query`` gives a number, and one that is as ``expect`` says.

    Without ``expect`` it only measures, and does not count among the figures of all checks.
    """

    kind: ClassVar[str] = "prometheus"
    gives: ClassVar[Mapping[str, Figure]] = {"value": Figure(NUMBER, "what the expression gives")}

    url: Annotated[Url, Meta(description="of the server, such as http://127.0.0.1:9090")]
    query: Annotated[str, Meta(min_length=1, description="an expression in PromQL")]
    expect: Annotated[Expectation, Meta(description="what the number must be, such as < 0.05")] = (
        Expectation()
    )
    series: Annotated[
        Literal["one", "min", "max", "sum"], Meta(description="what is taken of several; one refuses them")
    ] = "one"
    headers: Annotated[dict[Header, Text], Meta(description="sent with the request")] = {}
    verify: Annotated[bool, Meta(description="whether the certificate must be good")] = True

    @property
    def judges(self) -> bool:
        """Whether it expects anything."""
        return bool(self.expect)

    def describe(self) -> str:
        """What must hold."""
        must = f" is {self.expect}" if self.expect else ""
        return f"{self.query} at {self.url}{must}"

    def measure(self) -> Reading:
        """Ask once."""
        address = f"{self.url.rstrip('/')}/api/v1/query?{urlencode({'query': self.query})}"
        answer = fetch(address, within=self.within, headers=self.headers, verify=self.verify)
        value = self._value(answer.status, answer.body)
        if wrong := self.expect.wrong(value):
            raise Failed(wrong, answered=True, figures={"value": value})
        return Reading(f"{value:g}", {"value": value})

    def _value(self, status: int, body: bytes) -> float:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            if answer.status != "success":
                raise Failed(answer.error or f"status {status}", answered=True)
            values = _values(answer.data)
        except (msgspec.DecodeError, ValueError, TypeError, IndexError, KeyError):
            raise Failed(f"status {status}, not an answer of Prometheus", answered=True) from None
        if not values:
            raise Failed("no series", answered=True)
        if self.series == "one" and len(values) > 1:
            raise Failed(f"{len(values)} series; say series: max, or narrow the query", answered=True)
        value = min(values) if self.series == "min" else max(values)
        value = math.fsum(values) if self.series == "sum" else value
        if math.isnan(value):
            raise Failed("not a number (NaN), such as 0 divided by 0", answered=True)
        return value


def _values(data: _Data) -> list[float]:
    if data.resultType == "scalar":
        return [float(data.result[1])]
    if data.resultType == "vector":
        return [float(series["value"][1]) for series in data.result]
    raise Failed(f"a {data.resultType}, not one number at one time", answered=True)
