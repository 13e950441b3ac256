"""Properties of units: how they are set, and when the drop-in on disk is ours."""

import pytest

from chaosd.kernel.edit import from_data, to_data
from chaosd.kernel.systemd import UnitProperty, assigned, assignment, same, set_arguments


def test_words_for_systemctl() -> None:
    """A list of words, the unit after the end of the options, nothing for a shell to read."""
    assert set_arguments("a b;c.service", ["CPUQuota=20%"]) == (
        *("set-property", "--runtime", "--"),
        *("a b;c.service", "CPUQuota=20%"),
    )


@pytest.mark.parametrize(
    ("key", "shown", "value"),
    [
        ("CPUQuota", "infinity", ""),
        ("CPUQuota", "200ms", "20%"),
        ("CPUQuota", "1s 500ms", "150%"),
        ("CPUQuota", "1min", "6000%"),
        ("MemoryHigh", "infinity", "infinity"),
        ("TasksMax", "4915", "4915"),
        ("AllowedCPUs", "0-1", "0-1"),
        ("AllowedCPUs", "", ""),
    ],
)
def test_what_is_shown_can_be_assigned(key: str, shown: str, value: str) -> None:
    """What ``systemctl show`` prints, in the form that ``set-property`` takes back."""
    assert assignment(key, shown) == value


def test_the_last_assignment_of_a_drop_in_counts() -> None:
    """Other keys and comments do not."""
    text = "# made by systemctl\n[Service]\nMemoryHigh=1\nMemoryHighX=9\nMemoryHigh=2\n"
    assert assigned(text, "MemoryHigh") == "2"
    assert assigned(text, "CPUQuota") is None


@pytest.mark.parametrize(
    ("key", "one", "other", "equal"),
    [
        ("CPUQuota", "20.00%", "20%", True),
        ("CPUQuota", "25%", "20%", False),
        ("CPUQuota", "", "20%", False),
        ("AllowedCPUs", "0-2", "0 1 2", True),
        ("AllowedCPUs", "0-2", "0,1", False),
        ("CPUQuotaPeriodSec", "", "100000us", True),
        ("CPUQuotaPeriodSec", "20ms", "20000us", True),
        ("CPUQuotaPeriodSec", "", "20000us", False),
        ("MemoryHigh", "infinity", "infinity", True),
    ],
)
def test_values_that_mean_the_same(key: str, one: str, other: str, equal: bool) -> None:
    """systemd writes values in its own form."""
    assert same(key, one, other) is equal


def test_the_edit_is_its_own_record() -> None:
    """It says where systemd keeps the value, and survives the journal."""
    edit = UnitProperty("web.service", "CPUQuota", "", "20%")
    assert edit.path == "/run/systemd/system.control/web.service.d/50-CPUQuota.conf"
    assert edit.describe() == "systemctl set-property --runtime -- web.service CPUQuota=20%"
    assert from_data(to_data(edit)) == edit
