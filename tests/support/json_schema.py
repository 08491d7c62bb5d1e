"""Checking a value against a JSON schema; of the vocabulary only what the schema of a bundle uses."""

from __future__ import annotations

import re

KINDS = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float)}
KNOWN = {"$schema", "$defs", "title", "description"}


def problems(value, schema, root=None, where="spec"):
    """What a value has against a JSON schema, one line per finding."""
    root = schema if root is None else root
    found = []
    for word, wanted in schema.items():
        if word == "$ref":
            found += problems(value, root["$defs"][wanted.rpartition("/")[2]], root, where)
        elif word == "type":
            right = isinstance(value, KINDS[wanted]) and not isinstance(value, bool)
            found += [] if right else [f"{where} is no {wanted}"]
        elif word in ("const", "enum"):
            found += [] if value in ([wanted] if word == "const" else wanted) else [f"{where} is {value!r}"]
        elif word == "required":
            found += [f"{where}.{name} is missing" for name in wanted if name not in value]
        elif word == "properties":
            for name, part in wanted.items():
                found += problems(value[name], part, root, f"{where}.{name}") if name in value else []
        elif word == "additionalProperties":
            others = {name: part for name, part in value.items() if name not in schema.get("properties", {})}
            if wanted is False:
                found += [f"{where}.{name} is not described" for name in others]
            else:
                found += [line for name in others for line in problems(others[name], wanted, root, f"{where}.{name}")]
        elif word == "items":
            found += [
                line for index, one in enumerate(value) for line in problems(one, wanted, root, f"{where}[{index}]")
            ]
        elif word == "anyOf":
            found += [] if any(not problems(value, part, root) for part in wanted) else [f"{where} fits nothing"]
        elif word == "pattern":
            found += [] if re.search(wanted, value) else [f"{where} is {value!r}"]
        elif word in ("minimum", "maximum", "exclusiveMinimum", "minItems", "maxItems"):
            amount = len(value) if word.endswith("Items") else value
            fits = {"min": amount >= wanted, "max": amount <= wanted, "exc": amount > wanted}[word[:3]]
            found += [] if fits else [f"{where} is {amount}"]
        else:
            assert word in KNOWN, f"this test does not know {word}"
    return found
