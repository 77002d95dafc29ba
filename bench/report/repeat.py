"""What it takes to repeat stored runs: where they were made, the commands, the settings."""

import json
import shlex

from sslm_core.errors import UserError

from ..config.presets import preset
from ..data.dataset import embedded_digest
from ..store.results import GROUP
from ..store.scored import Scored
from . import page


def parts(methods: dict[str, list[Scored]]) -> list[page.Part]:
    """methods: name of method and variant -> one Scored per seed."""
    first = next(iter(methods.values()))[0]
    where: dict[tuple, list[str]] = {}
    for name, seeds in methods.items():
        for environment in dict.fromkeys(tuple(r["environment"].items()) for s in seeds for r in s.records.values()):
            where.setdefault(environment, []).append(name)
    rows = [[", ".join(names), *(value for _, value in environment)] for environment, names in where.items()]
    data = ", with DATA in place of the folder of exams" if wants_data(first) else ""
    variant = f" with {first.key['variant']}" if first.key["variant"] else ""
    return [
        page.Table(["methods", *dict(next(iter(where)))], rows),
        f"From a clone of the suite{data}:",
        page.Lines(commands(methods, first)),
        f"Settings of preset {first.key['preset']}{variant}:",
        page.Lines(settings(first), "columns"),
    ]


def wants_data(first: Scored) -> bool:
    """Whether a run needs --data: its data is not what the preset brings."""
    try:
        chosen = preset(first.key["preset"], first.key["variant"])
    except UserError:  # of another version of the suite
        return True
    return first.key["digest"] != embedded_digest(chosen)


def commands(methods: dict[str, list[Scored]], first: Scored) -> list[str]:
    """All that makes the stored runs, and then the report on them, again; runs of one commit together."""
    runs: dict[tuple, list[str]] = {}  # commits, variant, planes, seeds -> methods
    for seeds in methods.values():
        records = [r for s in seeds for r in s.records.values()]
        commits = tuple(dict.fromkeys(r["environment"]["commit"] for r in records))
        terms = commits, seeds[0].key["variant"], tuple(seeds[0].records), tuple(s.key["seed"] for s in seeds)
        runs.setdefault(terms, []).append(records[0]["method"])
    lines, data, at = [], ["--data", "DATA"] if wants_data(first) else [], None
    for (commits, variant, planes, seeds), names in runs.items():
        if commits != at:
            at = commits
            lines += [*map(checkout, commits), "make .venv/made"]
        chosen = {"methods": names, "planes": planes, "seeds": map(str, seeds)}
        listed = [word for option, values in chosen.items() for word in (f"--{option}", ",".join(values))]
        where = ["--protocol", first.key["protocol"], "--device", first.key["device"]]
        varied = ["--set", variant] if variant else []
        lines.append(command("run", "--preset", first.key["preset"], *data, *listed, *where, *varied))
    return [*lines, command("report", *methods, "--of", ",".join(first.key[name] for name in GROUP), *data)]


def checkout(commit: str) -> str:
    if not commit:
        return "# the commit is not known: the suite was no git checkout"
    changed = "   # and changes that were not committed" if commit.endswith("+") else ""
    return f"git checkout {commit.rstrip('+')}{changed}"


def command(*words: str) -> str:
    return f".venv/bin/python -m bench {shlex.join(words)}"


def settings(first: Scored) -> list[str]:
    lines = []
    for name, value in next(iter(first.records.values()))["settings"].items():
        if isinstance(value, dict):
            lines += [f"{name}.{field} = {json.dumps(of)}" for field, of in value.items()]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return lines
