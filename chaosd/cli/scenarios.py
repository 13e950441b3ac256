"""``scenarios``: those that come with chaosd, and what is wrong with one's own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from chaosd.cli import complete
from chaosd.cli.library import ListByDefault, json_option
from chaosd.cli.output import print_json
from chaosd.cli.run import set_option

if TYPE_CHECKING:
    from chaosd.scenario import Scenario


@click.group(cls=ListByDefault)
def scenarios() -> None:
    """List, show or validate scenarios."""


@scenarios.command("list")
@click.argument("category", required=False)
@json_option
def scenarios_list(category: str | None, as_json: bool) -> None:
    """List the scenarios that come with chaosd, by category; or those of one CATEGORY."""
    from chaosd.scenario import library, load

    found: dict[str, list[Scenario]] = {}
    for name in library():
        scenario = load(name, {})
        found.setdefault(scenario.category, []).append(scenario)
    found = dict(sorted(_only(category, found).items()))
    if as_json:
        print_json([_about(scenario) for group in found.values() for scenario in group])
        return
    width = max(len(scenario.name) for group in found.values() for scenario in group)
    for heading, group in found.items():
        click.echo(f"{heading} ({len(group)})")
        for scenario in group:
            click.echo(f"  {scenario.name:{width}}  {_sentence(scenario.description)}")


def _only(category: str | None, found: dict[str, list[Scenario]]) -> dict[str, list[Scenario]]:
    if category is None:
        return found
    if category not in found:
        from chaosd.document import near
        from chaosd.errors import ChaosdError

        raise ChaosdError(f"no category {category!r}", hint=near(category, found))
    return {category: found[category]}


def _about(scenario: Scenario) -> dict[str, Any]:
    return {
        "name": scenario.name,
        "category": scenario.category,
        "description": scenario.description,
        "faults": [step.fault.name for step in scenario.faults],
        "parameters": scenario.parameters,
        "duration": str(scenario.duration),
    }


@scenarios.command("show")
@click.argument("name", shell_complete=complete.scenario)
@json_option
def scenarios_show(name: str, as_json: bool) -> None:
    """Print the YAML of a scenario."""
    from chaosd.document import load
    from chaosd.scenario import find

    path = find(name)
    text = path.read_text("utf-8")
    if as_json:
        print_json(load(text, str(path))[0])
    else:
        click.echo(text, nl=False)


@scenarios.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete.scenario)
@set_option
@json_option
def scenarios_validate(files: tuple[str, ...], settings: dict[str, Any], as_json: bool) -> None:
    """Check scenario files and show every mistake at once.

    Each is shown with its line; the exit status is 2 if there is any.
    """
    from chaosd.errors import Exit

    results = [_validated(file, settings) for file in files]
    if as_json:
        print_json(results)
    for result in () if as_json else results:
        if result["valid"]:
            click.echo(f"{result['file']}: valid ({', '.join(result['faults'])})")
        for problem in result["problems"]:
            click.echo(f"chaosd: {problem}", err=True)
    sys.exit(Exit.OK if all(result["valid"] for result in results) else Exit.REFUSED)


def _validated(file: str, settings: dict[str, Any]) -> dict[str, Any]:
    from chaosd.errors import ChaosdError
    from chaosd.scenario import load

    try:
        scenario = load(file, settings)
    except ChaosdError as error:
        said = f"{error.message} ({error.hint})" if error.hint else error.message
        return {"file": file, "valid": False, "problems": said.splitlines()}
    faults = [step.fault.name for step in scenario.faults]
    return {"file": file, "valid": True, "problems": [], "name": scenario.name, "faults": faults}


@scenarios.command("schema")
@json_option
def scenarios_schema(as_json: bool) -> None:
    """Print the JSON schema of scenarios, by which editors complete and check them.

    The first line of a scenario says where it is: "# yaml-language-server: $schema=FILE".
    """
    from chaosd.cli.schema import schema

    print_json(schema())


def _sentence(text: str) -> str:
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]
