"""``python -m chaosd.demo up|load|state``."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from socketserver import BaseServer

from chaosd.demo import world
from chaosd.demo.load import Load, Summary
from chaosd.demo.settings import Settings, add_arguments, from_arguments
from chaosd.demo.supervisor import Supervisor
from chaosd.demo.world import SERVICES, DemoError

_ANY = "0.0.0.0"  # noqa: S104 - of a network namespace of its own


def main() -> int:
    """Run the command; 0 done, 2 refused with one line."""
    args = _parser().parse_args()
    try:
        {"up": _up, "load": _load, "state": _state, "serve": _serve}[args.command](args)
    except DemoError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaosd.demo", description="a booking service to try faults on"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it; Ctrl-C removes it again")
    up.add_argument("--json", action="store_true", help="say where it is as one JSON line")
    add_arguments(up)
    state = commands.add_parser("state", help="where a running demo is, as JSON")
    state.add_argument("--name", default=Settings.name)
    load = commands.add_parser("load", help="send requests at a steady rate")
    _add_load(load)
    serve = commands.add_parser("serve")
    serve.add_argument("service", choices=SERVICES)
    serve.add_argument("--parent", type=int, required=True)
    add_arguments(serve)
    return parser


def _add_load(load: argparse.ArgumentParser) -> None:
    home = f"http://{world.BOOKING}:{Settings.booking_port}"
    load.add_argument("--url", action="append", help=f"may be given many times ({home}/quote and /bookings)")
    load.add_argument("--seconds", type=_positive, default=10.0)
    load.add_argument("--rate", type=_positive, default=50.0, help="requests a second")
    load.add_argument("--timeout", type=_positive, default=5.0, help="seconds")
    load.add_argument("--workers", type=int, default=32)
    load.add_argument("--netns", default="chaosd-demo-client", help="send from here; '' is the caller's own")
    load.add_argument("--json", action="store_true", help="only the summary, as JSON")
    load.set_defaults(home=home)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _up(args: argparse.Namespace) -> None:
    with Supervisor(from_arguments(args)) as supervisor:
        state = supervisor.state()
        if args.json:
            _say(json.dumps(state))
        else:
            _say(f"netns {state['netns']}, clients in {state['client_netns']}")
            for name, pid in state["pids"].items():
                _say(f"{name:9} pid {pid:<7} {state['addresses'][name]}")
        supervisor.watch(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201


def _state(args: argparse.Namespace) -> None:
    _say(json.dumps(world.read_state(args.name)))


def _load(args: argparse.Namespace) -> None:
    urls = args.url or [f"{args.home}/quote?room=double", f"{args.home}/bookings"]
    load = Load(
        urls,
        seconds=args.seconds,
        rate=args.rate,
        timeout=args.timeout,
        workers=args.workers,
        netns=args.netns,
    )

    def each_second(second: int, summary: Summary) -> None:
        _say(f"{second + 1:4d} s {summary.line()}")

    summary = load.run(None if args.json else each_second)
    _say(json.dumps(summary.data()))


def _serve(args: argparse.Namespace) -> None:
    # The supervisor waits for its signals with them blocked, and a mask survives exec.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    world.die_with(args.parent)
    settings = from_arguments(args)
    world.call_myself(f"{settings.title}-{args.service}")
    world.enter(settings.name)
    server = _server(args.service, settings)
    os.write(sys.stdout.fileno(), b".")
    server.serve_forever()


def _server(service: str, settings: Settings) -> BaseServer:
    from chaosd.demo import booking, database, names, pms

    if service == "booking":
        return booking.server(_ANY, settings, world.DATABASE, world.PMS_NAME, world.NAMES)
    if service == "pms":
        return pms.server(_ANY, settings)
    if service == "names":
        return names.server(world.NAMES, settings, {world.PMS_NAME: world.PMS})
    return database.server(_ANY, settings)


if __name__ == "__main__":
    sys.exit(main())
