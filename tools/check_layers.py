#!/usr/bin/env python3
"""Checks that the code keeps the order of its floors.

usage: check_layers.py [DIRECTORY]

Three rules, over the workspace that the script lies in or over DIRECTORY:

1. A file includes only files of its own floor's part and of the floors below
   (FLOORS, the lowest first). Parts of one floor do not include each other.
2. A Bazel target lists only sources of its own folder, and each source and
   header belongs to a target. With rule 1, a target sees only what is below it.
3. No source file is longer than 500 lines.

Prints each violation with its place. Exits 1 if there is any.
"""

import pathlib
import re
import sys

MAX_LINES = 500

# The lowest floor first. A part is a folder, or files of a folder when it is
# named "folder:name,name". Parts in one row are neighbours.
FLOORS = [
    ["agent:call_error,planted,probe,rare_way,server_bounds,worker_info"],
    ["agent/runtime"],
    ["agent/device"],
    ["agent/device/cuda"],
    ["agent:call_options", "agent:message"],
    ["agent/transport:arrivals", "agent/transport:peer_liveness",
     "agent/transport:whole_object"],
    ["agent/store", "agent/transport/uv"],
    # They read frames and objects as uv does.
    ["agent/disk", "agent/transport/cma", "agent/transport/shm"],
    # It takes shm's way to map a peer's memory.
    ["agent/transport/cuda"],
    ["agent/transport"],
    ["agent:future,observer,options,request", "agent/wire"],
    ["agent:activity", "agent/metrics", "agent/pipe", "agent/python"],
    ["agent/group"],
    ["agent/client", "agent/server"],
    ["agent"],
    # The table of kinds, which depends on nothing.
    ["fault_injection:fault_kind"],
    ["sim"],
    ["sim/trace"],
    # Fault lines, which stories read too.
    ["fault_injection:fault"],
    ["sim/world"],
    ["sim/interpose"],
    ["sim/device", "sim/disk", "sim/network", "sim/store", "sim/scenario", "sim/stock"],
    ["fault_injection", "sim/view"],
    # Runs scenarios with their faults, so it stands above fault_injection.
    ["sim/explore"],
    ["tools/processes"],
    ["tools/command"],
    ["tools/bench"],
]

INCLUDE = re.compile(r'^#include "((?:agent|sim|fault_injection|tests|tools)/'
                     r'[^"]+)"', re.M)
SOURCES = (".cc", ".h")
FOLDERS = ("agent", "sim", "fault_injection", "tools")


def parts():
    """Returns {part: floor}, and {(folder, stem): part} for named files."""
    floor_of, part_of_file = {}, {}
    for floor, row in enumerate(FLOORS):
        for part in row:
            floor_of[part] = floor
            folder, _, names = part.partition(":")
            for name in filter(None, names.split(",")):
                part_of_file[folder, name] = part
    return floor_of, part_of_file


FLOOR_OF, PART_OF_FILE = parts()


def part_of(path):
    folder, stem = path.parent.as_posix(), path.stem
    return PART_OF_FILE.get((folder, stem), folder)


def check_includes(top, path, errors):
    part = part_of(path)
    if part not in FLOOR_OF:
        errors.append(f"{path}: the folder {part} is on no floor; add it to "
                      "FLOORS in tools/check_layers.py")
        return
    text = (top / path).read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        other = part_of(pathlib.PurePosixPath(match.group(1)))
        if other == part:
            continue
        line = text.count("\n", 0, match.start()) + 1
        if other not in FLOOR_OF:
            errors.append(f"{path}:{line}: {match.group(1)} is on no floor "
                          f"below {part}")
        elif FLOOR_OF[other] >= FLOOR_OF[part]:
            errors.append(f"{path}:{line}: {part} includes {match.group(1)}, "
                          f"which is not on a floor below it")


def check_target(top, folder, errors):
    build = top / folder / "BUILD"
    if not build.exists():
        errors.append(f"{folder}: no BUILD file")
        return
    listed = set(re.findall(r'"([^"\s]+\.(?:cc|h))"', build.read_text()))
    there = {path.name for path in (top / folder).iterdir()
             if path.suffix in SOURCES}
    for name in sorted(listed - there):
        errors.append(f"{folder}/BUILD: {name} is not in this folder")
    for name in sorted(there - listed):
        errors.append(f"{folder}/{name}: in no target of {folder}/BUILD")


def main():
    top = pathlib.Path(sys.argv[1] if len(sys.argv) > 1
                       else pathlib.Path(__file__).parent.parent)
    errors = []
    folders = set()
    for root in FOLDERS:
        for path in sorted((top / root).rglob("*")):
            if path.suffix in SOURCES:
                path = path.relative_to(top)
                folders.add(path.parent)
                check_includes(top, path, errors)
    for folder in sorted(folders):
        check_target(top, folder, errors)
    for root in (*FOLDERS, "tests"):
        for path in sorted((top / root).rglob("*")):
            if path.suffix in (*SOURCES, ".cu", ".py", ".bzl"):
                lines = path.read_text(encoding="utf-8").count("\n")
                if lines > MAX_LINES:
                    errors.append(f"{path.relative_to(top)}: {lines} lines, "
                                  f"more than {MAX_LINES}")
    for error in errors:
        print(error)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
