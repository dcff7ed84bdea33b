#!/usr/bin/env python3
"""Writes compile_commands.json, for clangd and clang-tidy, from Bazel.

usage: tools/compile_commands.py [TARGETS]     default: //...
"""

import json
import pathlib
import subprocess
import sys

# What GCC knows and clang does not, and what is no business of an editor.
_DROPPED = {"-fno-canonical-system-headers", "-MD"}
_DROPPED_PREFIXES = ("-frandom-seed=", "-D__DATE__", "-D__TIME")
_DROPPED_WITH_VALUE = {"-MF", "-o"}


def _clean(arguments):
    result = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in _DROPPED_WITH_VALUE:
            skip = True
        elif argument not in _DROPPED and not argument.startswith(
            _DROPPED_PREFIXES
        ):
            result.append(argument)
    return result + ["-Wno-unknown-warning-option"]


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1][0] == "-"):
        sys.exit(__doc__)
    targets = sys.argv[1] if len(sys.argv) == 2 else "//..."
    root = pathlib.Path(__file__).resolve().parent.parent
    output = subprocess.run(
        [
            "bazel",
            "aquery",
            "--output=jsonproto",
            "--ui_event_filters=-info",
            "--noshow_progress",
            f'mnemonic("CppCompile", {targets})',
        ],
        cwd=root,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ).stdout
    commands = {}
    for action in json.loads(output).get("actions", []):
        arguments = action["arguments"]
        source = arguments[arguments.index("-c") + 1]
        commands[source] = {
            "directory": str(root),
            "file": source,
            "arguments": _clean(arguments),
        }
    path = root / "compile_commands.json"
    path.write_text(
        json.dumps([commands[key] for key in sorted(commands)], indent=1) + "\n"
    )
    print(f"{path.name}: {len(commands)} files")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
