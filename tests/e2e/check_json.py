#!/usr/bin/env python3
"""Checks one JSON object on standard input against a definition of a schema.

usage: check_json.py SCHEMA DEFINITION < OBJECT

Knows the part of JSON Schema that the schema uses, and refuses any other
keyword, so that the schema says nothing that is not checked. Standard input
must hold one object and nothing else.
"""

import json
import re
import sys

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
KNOWN = {
    "$ref", "type", "enum", "const", "pattern", "minimum", "properties",
    "required", "additionalProperties", "items", "description",
}


def errors(schema, value, where, root):
    """Yields a line for each thing that is wrong with `value`."""
    unknown = set(schema) - KNOWN
    if unknown:
        yield f"{where}: the schema uses {sorted(unknown)}, unknown here"
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        yield from errors(root["$defs"][name], value, where, root)
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, TYPES[kind]) or
                             (kind != "boolean" and isinstance(value, bool))):
        yield f"{where}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r} is not {schema['const']!r}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{where}: {value!r} does not match {schema['pattern']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{where}: {value!r} is below {schema['minimum']}"
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from errors(schema["items"], item, f"{where}[{i}]", root)
    if not isinstance(value, dict):
        return
    for name in schema.get("required", []):
        if name not in value:
            yield f"{where}: there is no '{name}'"
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        here = f"{where}.{name}"
        if name in schema.get("properties", {}):
            yield from errors(schema["properties"][name], item, here, root)
        elif others is False:
            yield f"{here}: the schema does not know it"
        elif isinstance(others, dict):
            yield from errors(others, item, here, root)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        root = json.load(file)
    text = sys.stdin.read()
    try:
        value = json.loads(text)
    except ValueError as error:
        print(f"no JSON: {error}: {text[:300]!r}")
        return 1
    found = list(errors(root["$defs"][sys.argv[2]], value, sys.argv[2], root))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
