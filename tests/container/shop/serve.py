"""One service of the demo, as the first process of a container: ``serve.py booking|database|pms``.

The name server stands beside the pms, at the address of its container.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from threading import Thread

from chaosd.demo import booking, database, hostwork, names, pms
from chaosd.demo.settings import Settings
from chaosd.demo.world import DATABASE, PMS, PMS_NAME

ANY = "0.0.0.0"


def main(service: str) -> None:
    """Serve until SIGTERM."""
    settings = Settings(name="shop", pool_age=0.1, pms_timeout=2, database_timeout=2)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # the kernel gives pid 1 no signal that it leaves out
    Path(settings.folder).mkdir(parents=True, exist_ok=True)
    if service == "booking":
        hostwork.write_files(settings.folder)
        booking.server(ANY, settings, DATABASE, PMS_NAME, PMS).serve_forever()
    if service == "pms":
        Thread(target=names.server(ANY, settings, {PMS_NAME: PMS}).serve_forever, daemon=True).start()
        pms.server(ANY, settings).serve_forever()
    database.server(ANY, settings).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
