"""Which containers a word stands for, from what engines list."""

from __future__ import annotations

import pytest

from chaosd.errors import ChaosdError
from chaosd.targets.selector import EXAMPLES, Listed, choose


def listed(name: str, image: str = "shop", state: str = "running", **labels: str) -> Listed:
    given = {key.replace("__", "."): value for key, value in labels.items()}
    item = {"Id": name * 8, "Names": [f"/web/{name}", f"/{name}"], "State": state, "Image": image}
    return Listed.of(item | {"Labels": given or None})


def service(name: str, project: str, of: str, state: str = "running") -> Listed:
    return listed(name, state=state, com__docker__compose__project=project, com__docker__compose__service=of)


SHOP = [
    service("shop-api-2", "shop", "api"),
    service("shop-api-1", "shop", "api"),
    service("test-api-1", "test", "api"),
    service("shop-job-1", "shop", "job", "exited"),
    listed("db", "docker.io/library/postgres:16", "paused", tier="back", note="a=b"),
    listed("old", "localhost:5000/team/postgres@sha256:0123"),
    listed("plain", "busybox"),
]


def names(kind: str, value: str) -> list[str]:
    return [each.name for each in choose(kind, value, SHOP)]


def refused(kind: str, value: str) -> str:
    with pytest.raises(ChaosdError) as error:
        choose(kind, value, SHOP)
    return str(error.value)


def test_services_of_one_project_or_of_any() -> None:
    assert names("service", "shop/api") == ["shop-api-1", "shop-api-2"]
    assert names("service", "api") == ["shop-api-1", "shop-api-2", "test-api-1"]
    assert names("project", "shop") == ["shop-api-1", "shop-api-2"]


def test_labels_with_and_without_a_value() -> None:
    assert names("label", "tier") == names("label", "tier=back") == ["db"]
    assert names("label", "note=a=b") == ["db"]
    assert "did you mean container:label=tier=back?" in refused("label", "tier=bakc")


def test_images_as_docker_and_as_podman_write_them() -> None:
    for word in ("postgres", "postgres:16", "docker.io/library/postgres:16"):
        assert names("image", word) == ["db"]
    assert names("image", "localhost:5000/team/postgres") == ["old"]
    assert names("image", "busybox:latest") == names("image", "busybox") == ["plain"]
    assert "there is no container with image 'postgres:17'" in refused("image", "postgres:17")


def test_what_does_not_run_is_not_meant_and_is_named() -> None:
    assert refused("service", "job") == ("no container with service 'job' is running (shop-job-1 is exited)")


def test_what_is_no_choice_is_answered_with_what_is_one() -> None:
    assert "containers are not chosen by 'svc'" in refused("svc", "api")
    assert all(refused(kind, "") == f"{kind}= names nothing (such as {EXAMPLES[kind]})" for kind in EXAMPLES)
