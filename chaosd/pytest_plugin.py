"""pytest's plugin: tests under faults, by the fixture ``chaos`` and the marker of that name.

It is imported with every start of pytest, so that all else is imported when it is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import pytest

import chaosd
from chaosd.places import run_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chaosd.embed.calls import Scenario
    from chaosd.embed.run import Run

_RUNS = pytest.StashKey[list[str]]()
_REASONS = pytest.StashKey[dict[str, str | None]]()
_PATIENCE = "60"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say what can be set."""
    group = parser.getgroup("chaosd")
    said = "a fault that this host cannot do fails its test, instead of skipping it"
    group.addoption("--chaos-require", action="store_true", help=said)
    parser.addini("chaos_require", said, "bool", default=False)
    parser.addini("chaos_wait", "seconds to wait while another run holds the host", default=_PATIENCE)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "chaos(*faults): skip the test, and say why, where this host cannot do these faults"
    )
    config.stash[_RUNS], config.stash[_REASONS] = [], {}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip before any fixture is made, where a fault of the marker cannot be done."""
    reasons = item.config.stash[_REASONS]
    for fault in dict.fromkeys(fault for mark in item.iter_markers("chaos") for fault in mark.args):
        if fault not in reasons:
            reasons[fault] = chaosd.available(fault)
        if (reason := reasons[fault]) is not None:
            _cannot(item.config, f"{fault}: {reason}")


def _cannot(config: pytest.Config, reason: str) -> NoReturn:
    if config.getoption("--chaos-require") or config.getini("chaos_require"):
        pytest.fail(f"required here, yet missing: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def chaos(request: pytest.FixtureRequest) -> Iterator[Chaos]:
    """Faults for a test to run under; when it is over, so are they."""
    made = Chaos(request.node)
    yield made
    made.close()


class Chaos:
    """Faults for one test; what they hit is in its report.

    Args:
        item: the test.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._begun: list[Run] = []

    @contextmanager
    def inject(self, fault: str, *, target: str, allow_miss: bool = False, **options: Any) -> Iterator[Run]:
        """Run a block under a fault; the test fails if it hits nothing.

        Args:
            fault: its name.
            target: what to aim at.
            allow_miss: it may hit nothing.
            options: as those of ``chaosd.inject``, the fields of the fault among them.
        """
        with self._under(lambda: chaosd.inject(fault, target=target, **options), allow_miss) as run:
            yield run

    @contextmanager
    def running(self, scenario: Scenario, *, allow_miss: bool = False, **options: Any) -> Iterator[Run]:
        """Run a block under the faults of a scenario; the test fails if the run does not pass.

        Args:
            scenario: a file, the name of one that comes with chaosd, or one as data.
            allow_miss: its faults may hit nothing.
            options: as those of ``chaosd.running``.
        """
        with self._under(lambda: chaosd.running(scenario, **options), allow_miss) as run:
            yield run

    def run(self, scenario: Scenario, *, allow_miss: bool = False, **options: Any) -> Run:
        """Do a scenario from its beginning to its end; the test fails if the run does not pass.

        Args:
            scenario: as that of ``running``, and so are the others.
            allow_miss: see there.
            options: see there.
        """
        run = self._do(lambda: chaosd.running(scenario, **options), lambda run: run.complete())
        self._tell(run)
        _judge(run, allow_miss)
        return run

    def close(self) -> None:
        """Lift what the test has left in force, and say so."""
        left = [run for run in self._begun if run.live]
        for run in left:
            run.end()
        if left:
            said = ", ".join(run.id for run in left)
            pytest.fail(f"run {said} was left in force by the test; it is lifted now", pytrace=False)

    @contextmanager
    def _under(self, make: Callable[[], Run], allow_miss: bool) -> Iterator[Run]:
        run = self._do(make, lambda run: run.start())
        self._begun.append(run)
        try:
            with ExitStack() as stack:
                stack.push(run)  # its end alone; it has begun
                yield run
        finally:
            self._tell(run)
        _judge(run, allow_miss)

    def _do(self, make: Callable[[], Run], what: Callable[[Run], None]) -> Run:
        """Have a run do something, as soon as the host is free, or skip the test where it cannot."""
        config = self._item.config
        until = time.monotonic() + float(config.getini("chaos_wait"))
        while True:
            try:
                run = make()
                what(run)
            except chaosd.BusyError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
            except chaosd.UnsupportedError as error:
                _cannot(config, str(error))
            else:
                return run

    def _tell(self, run: Run) -> None:
        self._item.config.stash[_RUNS].append(run.id)
        self._item.add_report_section("call", "chaosd", str(run))
        self._item.user_properties.append(("chaosd", str(run)))


def _judge(run: Run, allow_miss: bool) -> None:
    if run.verdict != "passed" and not (allow_miss and run.verdict == "inconclusive"):
        pytest.fail(str(run), pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session when a run of it is not put back."""
    if _left(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which runs are not put back."""
    for run in _left(config):
        terminalreporter.write_line(f"chaosd: run {run} is NOT put back: chaosd revert {run}", red=True)


def _left(config: pytest.Config) -> list[str]:
    return [run for run in config.stash[_RUNS] if (run_dir() / f"{run}.jsonl").exists()]
