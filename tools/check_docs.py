#!/usr/bin/env python3
"""Checks the documents against the tree.

Every relative link leads somewhere; in docs/parity.md every row is there once
and every test, scenario and planted defect that it names exists; and
docs/faults.md has a line for every kind of fault.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
ROWS = [str(row) for row in range(1, 66)]
DEFECTS = [str(defect) for defect in range(1, 25)] + list("abcdef")
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


def check_parity():
    scenarios = set(
        re.findall(r"REPRISE_SCENARIO\(\s*(\w+)", read("tests/scenarios/*.cc")))
    planted = set(
        re.findall(r'^\s+\{"(\w+)"', read("tests/planted/planted.cc"), re.M))
    planted &= set(re.findall(r'"(\w+)"', read("tests/planted/BUILD")))
    scripts = {path.name for path in TOP.glob("tests/*/*.sh")}
    found = []
    for line in (TOP / "docs/parity.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| ") or len(cells) != 4 or cells[2] == "state":
            continue
        row, _, state, shown_by = cells
        found.append(row)
        here = f"docs/parity.md, row {row}"
        names = 0
        if state not in STATES:
            errors.append(f"{here}: no such state: {state}")
        for path, tests in SHOWN_BY_TEST.findall(shown_by):
            source = TOP / "tests/unit" / (path + ".cc")
            text = source.read_text() if source.exists() else ""
            for test in tests.split(", "):
                names += 1
                if not re.search(r"TEST\w*\(\w+,\s*" + test + r"\)", text):
                    errors.append(f"{here}: no test {test} in {path}")
        for kind, there in [("scenario", scenarios), ("planted", planted),
                            ("script", scripts)]:
            for name in re.findall(kind + r" `([\w.]+)`", shown_by):
                names += 1
                if name not in there:
                    errors.append(f"{here}: no {kind} {name}")
        if state == "done" and names == 0:
            errors.append(f"{here}: nothing shows that it is done")
    if found != ROWS + DEFECTS:
        missing = [row for row in ROWS + DEFECTS if row not in found]
        errors.append(f"docs/parity.md: rows missing or out of order: {missing}")


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
check_parity()
check_faults()
for error in errors:
    print(error)
sys.exit(bool(errors))
