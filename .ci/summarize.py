#!/usr/bin/env python3
"""Counts test results in Bazel's build event files (JSON).

usage: summarize.py [--passed=CHECK]... [--failed=CHECK]... FILE...

Prints the tests that did not pass and, as its last line, "N passed, N failed"
(and ", N skipped" if any). A test that was to run and left no result counts as
failed, and so does a run of Bazel that broke off or failed by anything else
than a test. Exits 1 unless all is well.
"""

import json
import sys


def _events(path):
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        print(f"{path}: {error}")


def _results(path):
    """Returns {label: "passed", "failed" or "skipped"} of one bazel run."""
    results = {}
    exit_name = "no end"
    for event in _events(path):
        id = event.get("id", {})
        if "targetConfigured" in id:
            kind = event.get("configured", {}).get("targetKind", "")
            if kind.endswith("_test rule"):
                results.setdefault(id["targetConfigured"]["label"], "failed")
        elif "targetCompleted" in id:
            label = id["targetCompleted"]["label"]
            if event.get("aborted", {}).get("reason") == "SKIPPED":
                results[label] = "skipped"
        elif "testSummary" in id:
            status = event.get("testSummary", {}).get("overallStatus")
            if status in ("PASSED", "FLAKY"):
                results[id["testSummary"]["label"]] = "passed"
        elif "buildFinished" in id:
            exit_name = event["finished"]["exitCode"]["name"]
    if "failed" not in results.values() and exit_name != "SUCCESS":
        results[f"bazel, for {path}: {exit_name}"] = "failed"
    return results


def main():
    results = []
    for argument in sys.argv[1:]:
        for outcome in ("passed", "failed"):
            if argument.startswith(f"--{outcome}="):
                results.append((argument.split("=", 1)[1], outcome))
                break
        else:
            results.extend(sorted(_results(argument).items()))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, outcome in results:
        counts[outcome] += 1
        if outcome != "passed":
            print(f"{outcome}: {name}")
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}")
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
