#!/usr/bin/env python3
"""Checks the documents against the tree.

Every relative link leads somewhere; in docs/parity.md every row is there once;
every test, scenario and planted defect that it or docs/findings.md names
exists; docs/faults.md has a line for every kind of fault; and README finds the
planted defect of its first five minutes as the test of that defect does; and
docs/stock-museum.md has each kept defect of PyTorch's agent with its rule.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
ROWS = [str(row) for row in range(1, 66)]
DEFECTS = [str(defect) for defect in range(1, 27)] + list("abcdef")
FINDINGS = [f"F{number}" for number in range(1, 34)]
STATES = ("done", "later", "not ours")
SHOWN_BY_TEST = re.compile(r"`([a-z_]+/[a-z_0-9]+)` ([A-Z]\w+(?:, [A-Z]\w+)*)")

errors = []


def anchors(text):
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


def check_links(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists():
            errors.append(f"{document.relative_to(TOP)}: no {link}")
        elif anchor and anchor not in anchors(target.read_text()):
            errors.append(f"{document.relative_to(TOP)}: no heading {link}")


def read(pattern):
    return "\n".join(path.read_text() for path in sorted(TOP.glob(pattern)))


class Named:
    """What documents may name as having shown something."""

    def __init__(self):
        planted = set(
            re.findall(r'^\s+\{"(\w+)"', read("tests/planted/planted.cc"),
                       re.M))
        self.of_kind = {
            "scenario": set(
                re.findall(r"REPRISE_SCENARIO\(\s*(\w+)",
                           read("tests/scenarios/*.cc") +
                           read("tests/stock/*.cc"))),
            "planted": planted & set(
                re.findall(r'"(\w+)"', read("tests/planted/BUILD"))),
            "script": {path.name for path in TOP.glob("tests/*/*.sh")},
        }

    def check(self, here, shown_by):
        """Returns how many names `shown_by` has."""
        names = 0
        for path, tests in SHOWN_BY_TEST.findall(shown_by):
            source = TOP / "tests/unit" / (path + ".cc")
            text = source.read_text() if source.exists() else ""
            for test in tests.split(", "):
                names += 1
                if not re.search(r"TEST\w*\(\w+,\s*" + test + r"\)", text):
                    errors.append(f"{here}: no test {test} in {path}")
        for kind, there in self.of_kind.items():
            for several in re.findall(kind + r" (`[\w.]+`(?:, `[\w.]+`)*)",
                                      shown_by):
                for name in re.findall(r"[\w.]+", several):
                    names += 1
                    if name not in there:
                        errors.append(f"{here}: no {kind} {name}")
        return names


def rows_of(document):
    """Yields the first, third and last cell of each row of four cells."""
    for line in (TOP / document).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 4 and cells[2] != "state":
            yield cells[0], cells[2], cells[3]


def check_parity(named):
    found = []
    for row, state, shown_by in rows_of("docs/parity.md"):
        found.append(row)
        here = f"docs/parity.md, row {row}"
        if state not in STATES:
            errors.append(f"{here}: no such state: {state}")
        if named.check(here, shown_by) == 0 and state == "done":
            errors.append(f"{here}: nothing shows that it is done")
    if found != ROWS + DEFECTS:
        missing = [row for row in ROWS + DEFECTS if row not in found]
        errors.append(f"docs/parity.md: rows missing or out of order: {missing}")


def check_findings(named):
    found = []
    for finding, _, shown_by in rows_of("docs/findings.md"):
        # Those of the harness, H, have a row for each of their sentences.
        if not finding.startswith("H"):
            found.append(finding)
        if named.check(f"docs/findings.md, {finding}", shown_by) == 0:
            errors.append(f"docs/findings.md: nothing shows {finding}")
    if found != FINDINGS:
        missing = [row for row in FINDINGS if row not in found]
        errors.append(
            f"docs/findings.md: rows missing or out of order: {missing}")


def check_museum():
    """The museum's table is that of its replay files, with their rules."""
    text = (TOP / "docs/stock-museum.md").read_text()
    told = dict(re.findall(r"`(\w+\.replay)` \| `([\w-]+)`", text))
    kept = {
        path.name: re.search(r"^rule (.*)$", path.read_text(), re.M).group(1)
        for path in TOP.glob("tests/replays/stock/*.replay")
    }
    for name in sorted(told.keys() | kept.keys()):
        if name not in told:
            errors.append(f"docs/stock-museum.md: {name} has no row")
        elif name not in kept:
            errors.append(f"docs/stock-museum.md: there is no {name}")
        elif told[name] != kept[name]:
            errors.append(f"docs/stock-museum.md: {name} breaks {kept[name]}, "
                          f"not {told[name]}")


def check_first_minutes():
    text = (TOP / "README.md").read_text()
    command = re.search(r"explore (\w+)(.*) --plant (\w+)", text)
    if command is None:
        errors.append("README.md: no planted defect is explored")
        return
    scenario, options, defect = command.groups()
    tested = re.search(rf'"{defect}": "(\w+)(.*)"', read("tests/planted/BUILD"))
    wanted = options.replace(" --seeds 2000", "")
    if tested is None or tested.groups() != (scenario, wanted):
        errors.append(f"README.md: {defect} is not explored as its test in "
                      "tests/planted/BUILD explores it")


def check_faults():
    text = (TOP / "docs/faults.md").read_text()
    table = (TOP / "fault_injection/fault_kind.cc").read_text()
    words = re.findall(r'\.word = "([\w-]+)"', table)
    if not words:
        errors.append("fault_injection/fault_kind.cc: no kinds of fault found")
    for word in words:
        if not re.search(rf"^\| `{word} ", text, re.MULTILINE):
            errors.append(f"docs/faults.md: no line for '{word}'")


for document in [*TOP.glob("*.md"), *TOP.glob("docs/*.md")]:
    check_links(document)
named = Named()
check_parity(named)
check_findings(named)
check_faults()
check_museum()
check_first_minutes()
for error in errors:
    print(error)
sys.exit(bool(errors))
