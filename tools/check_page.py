"""Writes docs/checks.md from the checks' own classes.

python tools/check_page.py          write the page
python tools/check_page.py --check  say whether it is out of date; exit status 1 if it is
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from fault_pages import fields_table, grid

from chaosd.checks.base import Check, registry
from chaosd.checks.figures import OPERATORS, Figure
from chaosd.checks.sampler import THREADS
from chaosd.checks.threshold import ENOUGH, METRICS, WINDOW, defaults
from chaosd.cli.library import describe_check

ALL = ("name", "within", "rate", "netns")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "checks.md"

EXAMPLES = {
    "command": "argv: [systemctl, is-active, nginx.service]",
    "dns": "query: api.internal, server: 10.0.0.2, answer: [10.0.3.7]",
    "host": 'expect: ["memory.available > 10%", "load1 < 16"]',
    "http": "url: http://127.0.0.1:8000/health, status: [200, 204], within: 500ms",
    "log": "file: /var/log/app.log, matches: ERROR|FATAL",
    "postgres": "host: 127.0.0.1, user: app, query: SELECT count(*) FROM pg_stat_activity, expect: < 90",
    "process": "of: unit:nginx.service, expect: [rss < 512MiB]",
    "prometheus": 'url: http://127.0.0.1:9090, query: "sum(rate(errors_total[1m]))", expect: < 0.05',
    "redis": "host: 127.0.0.1, command: [LLEN, jobs], expect: < 1000",
    "tcp": "host: 127.0.0.1, port: 5432",
}

TEXT = """\
# Checks and thresholds

Generated from the classes that measure. `chaosd checks` lists them, `chaosd checks show NAME` prints the
same.

A check is measured again and again for as long as a [scenario](scenarios.md) runs. What it is for depends on
where it stands:

```yaml
steady_state:                 # must hold before anything is touched, and again afterwards
  - http: {{name: api, url: "http://127.0.0.1:8000/health", within: 500ms}}
observe:                      # is only measured
  - redis: {{name: queue, host: 127.0.0.1, command: [LLEN, jobs]}}
abort_when:                   # ends the run at once
  - api.p95 > 2s for 10s
  - queue.value > 1000
  - host.memory.available < 10%
faults:
  - network.delay: {{delay: 100ms, target: "container:api"}}
```

{index}

All of them take these fields:

| field | default | meaning |
| --- | --- | --- |
| `name` | its kind | what thresholds and reports call it |
| `within` | 1s, if nothing else is said below | the longest time it may take; what takes longer has failed |
| `rate` | 1, if nothing else is said below | probes a second, at most 500; {threads} may wait at a time |
| `netns` | where chaosd is | from where to measure: `target`, or a network namespace by name, path or pid |

## Thresholds

```text
[CHECK.]FIGURE  OPERATOR  LIMIT  [for DURATION]
```

- **Operators** are {operators}.
- **Limits** have the unit of the figure: `50%`, `800ms`, `2GiB`, or a plain number.
- **Figures over several probes**, of every check:

{metrics}

  They are taken over the last {window:g} seconds of the fault, and at least {enough} probes. A share
  counts as soon as it is decided: three failures among the first {enough} probes are more than half of
  them, whatever the others say. Without the name of a check they are about all checks together. What only
  measures is left out of that: `host` and `prometheus` without `expect`, `log` with `expect: any`. A probe
  that waited in vain counts with the time it waited.
- **Figures of single probes** are those that a kind of check gives; see below. The newest one counts. The
  name of the check may be left out where only one gives the figure.
- **Figures of this host** need no check in the scenario: `load1 > 8`, `psi.memory.full > 20% for 5s` and
  `host.disk.free < 5%` are enough. Pressure needs a kernel that keeps account of it (`CONFIG_PSI`, on some
  distributions `psi=1` at boot); a threshold on it is refused where there is none.
- **`for`**: it must be so all that time, without a break.

The run ends, and everything is put back, at the next look after the probe that crossed the limit; the engine
looks ten times a second.

These hold always, unless the scenario has a threshold of its own for the same figure of the same check:
{defaults}.
Pressure is not among them: on a quiet host the kernel counts all tasks as stalled as soon as the only busy
one is held back, and holding back is what some faults do.

"""

KIND = """\
## {name}

{doc}

```yaml
- {name}: {{{example}}}
```
{needs}
{fields}
{figures}"""


def page() -> str:
    """The text of the page."""
    kinds = registry()
    rows = [(f"[`{name}`](#{name})", _first_sentence(kind)) for name, kind in kinds.items()]
    head = TEXT.format(
        index=grid(("check", "holds when"), rows),
        threads=THREADS,
        operators=" ".join(f"`{op}`" for op in OPERATORS),
        metrics=_indented(_figures({name: METRICS[name] for name in METRICS})),
        window=WINDOW,
        enough=ENOUGH,
        defaults=", ".join(f"`{threshold}`" for threshold in defaults()),
    )
    return head + "\n".join(_section(name, kind) for name, kind in kinds.items())


def _section(name: str, kind: type[Check]) -> str:
    about = describe_check(kind)
    fields = [field for field in about["fields"] if field not in ALL or field in kind.__annotations__]
    needs = "".join(f"\nIt needs `{line}`.\n" for line in about["needs"])
    figures = f"\n{_figures(kind.gives)}\n" if kind.gives else ""
    return KIND.format(
        name=name,
        doc=about["doc"],
        example=EXAMPLES[name],
        needs=needs,
        fields=fields_table(about["fields"], fields),
        figures=figures,
    )


def _figures(figures: Mapping[str, Figure]) -> str:
    rows = [(f"`{name}`", f"`{figure.unit.example}`", figure.about) for name, figure in figures.items()]
    return grid(("figure", "limit", ""), rows)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _first_sentence(kind: type[Check]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].replace("``", "`").rstrip(".")


def main() -> int:
    """Write or check; the exit status."""
    stale = not PAGE.exists() or PAGE.read_text("utf-8") != page()
    if stale and "--check" in sys.argv[1:]:
        sys.stdout.write("docs/checks.md is out of date: python tools/check_page.py\n")
        return 1
    if stale:
        PAGE.write_text(page(), "utf-8")
        sys.stdout.write("docs/checks.md\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
