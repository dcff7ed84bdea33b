#!/usr/bin/env python3
"""Turns what gcov writes into lcov's format, for `bazel coverage`.

Stands in for Bazel's coverage tools, and is called by Bazel in two ways:
  --coverage_dir=DIR --source_file_manifest=LIST --output_file=FILE
      after a test: turns gcov's JSON files in DIR into one lcov file
  --reports_file=LIST --output_file=FILE
      at the end: adds up the lcov files
Other options are ignored.
"""

import collections
import gzip
import json
import pathlib
import sys


class Report:
    """Counts by source file: of lines, and of functions by (line, name)."""

    def __init__(self):
        self.lines = collections.defaultdict(collections.Counter)
        self.functions = collections.defaultdict(collections.Counter)

    def add_gcov(self, path, sources):
        with gzip.open(path) as stream:
            data = json.load(stream)
        for file in data["files"]:
            name = file["file"]
            if name not in sources:
                continue
            for line in file["lines"]:
                self.lines[name][line["line_number"]] += line["count"]
            for function in file["functions"]:
                key = (function["start_line"], function["name"])
                self.functions[name][key] += function["execution_count"]

    def add_lcov(self, path):
        name = None
        starts = {}
        for record in path.read_text().splitlines():
            kind, _, value = record.partition(":")
            if kind == "SF":
                name = value
                starts = {}
            elif kind == "FN":
                line, _, function = value.partition(",")
                starts[function] = int(line)
            elif kind == "FNDA":
                count, _, function = value.partition(",")
                key = (starts[function], function)
                self.functions[name][key] += int(count)
            elif kind == "DA":
                line, count = value.split(",")[:2]
                self.lines[name][int(line)] += int(count)

    def write(self, path):
        with open(path, "w", encoding="utf-8") as out:
            for name in sorted(self.lines):
                out.write(f"SF:{name}\n")
                functions = sorted(self.functions[name].items())
                for (line, function), _ in functions:
                    out.write(f"FN:{line},{function}\n")
                for (_, function), count in functions:
                    out.write(f"FNDA:{count},{function}\n")
                out.write(f"FNF:{len(functions)}\n")
                out.write(f"FNH:{sum(1 for _, count in functions if count)}\n")
                lines = sorted(self.lines[name].items())
                for line, count in lines:
                    out.write(f"DA:{line},{count}\n")
                out.write(f"LH:{sum(1 for _, count in lines if count)}\n")
                out.write(f"LF:{len(lines)}\nend_of_record\n")


def main():
    options = dict(
        argument[2:].split("=", 1)
        for argument in sys.argv[1:]
        if argument.startswith("--") and "=" in argument
    )
    report = Report()
    if "reports_file" in options:
        for name in open(options["reports_file"]).read().split():
            report.add_lcov(pathlib.Path(name))
    else:
        directory = pathlib.Path(options["coverage_dir"])
        sources = set(open(options["source_file_manifest"]).read().split())
        for path in sorted(directory.rglob("*.gcov.json.gz")):
            report.add_gcov(path, sources)
    report.write(options["output_file"])


if __name__ == "__main__":
    main()
