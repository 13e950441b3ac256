"""Which containers a word stands for: a name or an id, a label, a compose service or project, an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from chaosd.errors import ChaosdError
from chaosd.targets.build import suggest

EXAMPLES = {
    "label": "container:label=app=api",
    "service": "container:service=shop/api",
    "project": "container:project=shop",
    "image": "container:image=postgres:16",
}
"""What containers are chosen by besides their name, each with a word to show how it is written."""
_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
"""The labels of Docker Compose (docs.docker.com, "Compose file reference: labels"), and podman-compose's."""
_HOMES = ("docker.io/library/", "docker.io/", "localhost/")
"""What Podman writes before the name of an image that Docker writes without."""


class Listed(msgspec.Struct, frozen=True):
    """A container as an engine lists it; ``state`` is a word such as ``running`` or ``exited``."""

    id: str
    name: str
    state: str
    image: str
    labels: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Listed:
        """From one item of ``GET /containers/json``, whose names begin with a slash, and links hold two."""
        names = [name.lstrip("/") for name in item["Names"]]
        name = next((name for name in names if "/" not in name), item["Id"][:12])
        labels = tuple((item.get("Labels") or {}).items())
        return cls(item["Id"], name, item["State"], item["Image"], labels)

    @property
    def up(self) -> bool:
        """Whether it has processes."""
        return self.state in ("running", "paused")

    def values(self, kind: str) -> list[str]:
        """What could be written for it after ``label=``, ``service=``, ``project=`` or ``image=``."""
        labels = dict(self.labels)
        project, service = labels.get(_PROJECT), labels.get(_SERVICE)
        match kind:
            case "label":
                return [word for key, value in self.labels for word in (f"{key}={value}", key)]
            case "service":
                return [*([f"{project}/{service}"] if project else []), service] if service else []
            case "project":
                return [project] if project else []
            case _:
                image = _bare(self.image)
                name = re.sub(r"(:[^/@]*)?(@.*)?\Z", "", image)
                return [image if image != name else f"{name}:latest", name]


def choose(kind: str, value: str, every: Iterable[Listed]) -> list[Listed]:
    """Those that run and are meant, by name.

    Args:
        kind: a key of ``EXAMPLES``.
        value: what stands after it.
        every: all containers there are.

    Raises:
        ChaosdError: no such kind, or no container that runs has this value.
    """
    if kind not in EXAMPLES:
        hint = f"a name or an id, or by {', '.join(EXAMPLES)}, such as {EXAMPLES['label']}"
        raise ChaosdError(f"containers are not chosen by {kind!r}", hint=hint)
    if not value:
        raise ChaosdError(f"{kind}= names nothing", hint=f"such as {EXAMPLES[kind]}")
    known, wanted = sorted(every, key=lambda each: each.name), _bare(value) if kind == "image" else value
    meant = [each for each in known if wanted in each.values(kind)]
    if found := [each for each in meant if each.up]:
        return found
    if meant:
        states = ", ".join(f"{each.name} is {each.state}" for each in meant)
        raise ChaosdError(f"no container with {kind} {value!r} is running", hint=states)
    words = [word for each in known if each.up for word in each.values(kind)]
    raise ChaosdError(
        f"there is no container with {kind} {value!r}",
        hint=suggest(value, words, f"container:{kind}=", f"such as {EXAMPLES[kind]}"),
    )


def _bare(image: str) -> str:
    home = next((home for home in _HOMES if image.startswith(home)), "")
    return image.removeprefix(home)
