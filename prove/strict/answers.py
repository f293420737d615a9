"""The strict provider's answers: they depend on the request alone, so that outputs can be compared."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

INVALID_OF = 1000


def content_hash(path: str, body: Any) -> str:
    """Return the name under which a request is counted; requests of equal content have the same one."""
    text = json.dumps([path.rsplit("/", 1)[-1], body], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def count_tokens(text: str) -> int:
    """Return how many tokens the strict provider counts: one for every four bytes, rounded up."""
    return math.ceil(len(text.encode(errors="surrogatepass")) / 4)


def chat_text(body: dict[str, Any]) -> str:
    """Return the answer to a chat, before max_tokens cuts it.

    "echo: x", "upper: x", "reverse: x" and "count: x" (words) do what they say. "long: n" returns n words. Any other
    chat returns "answer" and a digest of the request.
    """
    asked = str(body["messages"][-1]["content"])
    rule, _, rest = asked.partition(": ")
    match rule:
        case "echo":
            return rest
        case "upper":
            return rest.upper()
        case "reverse":
            return rest[::-1]
        case "count":
            return str(len(rest.split()))
        case "long":
            return " ".join(["word"] * int(rest))
    return f"answer {_digest(body).hex()[:12]}"


def structured_text(body: dict[str, Any], schema: dict[str, Any], invalid_share: float) -> str:
    """Return JSON that satisfies a simple schema; for a share (0 to 1) of the requests, JSON that does not."""
    digest = _digest(body)
    value = instance(schema, digest, schema)
    text = json.dumps(value, ensure_ascii=False)
    draw = int.from_bytes(digest[-4:], "big") % INVALID_OF
    if draw >= invalid_share * INVALID_OF:
        return text
    required = schema.get("required", [])
    if draw % 2 and isinstance(value, dict) and required:
        return json.dumps({name: each for name, each in value.items() if name != required[0]})
    return text[:-1]


def instance(schema: Any, digest: bytes, root: dict[str, Any]) -> Any:
    """Return a value that satisfies a schema of types, properties, items, enum, const, bounds and local $ref."""
    if not isinstance(schema, dict):
        return None
    if "$ref" in schema:
        found: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return instance(found, digest, root)
    number = int.from_bytes(digest[:4], "big")
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][number % len(schema["enum"])]
    for word in ("anyOf", "oneOf", "allOf"):
        if word in schema:
            return instance(schema[word][0], digest, root)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    return _of_type(kind[0] if isinstance(kind, list) else kind, schema, digest, root)


def _of_type(kind: str, schema: dict[str, Any], digest: bytes, root: dict[str, Any]) -> Any:
    number = int.from_bytes(digest[:4], "big")
    match kind:
        case "object":
            properties = schema.get("properties", {})
            names = [*properties, *(each for each in schema.get("required", []) if each not in properties)]
            return {name: instance(properties.get(name, {}), _below(digest, name), root) for name in names}
        case "array":
            least = schema.get("minItems", 0)
            count = max(least, min(schema.get("maxItems", 2), 2))
            return [instance(schema.get("items", {}), _below(digest, str(place)), root) for place in range(count)]
        case "integer" | "number":
            least = math.ceil(schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1))
            most = math.floor(schema.get("maximum", schema.get("exclusiveMaximum", least + 101) - 1))
            return least + number % max(most - least + 1, 1)
        case "boolean":
            return bool(number % 2)
        case "null":
            return None
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10**6)
    return digest.hex()[:8].ljust(least, "x")[:most]


def vector(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 that depends on the text alone."""
    stream = hashlib.shake_256(text.encode(errors="surrogatepass")).digest(dimensions * 2)
    values = [int.from_bytes(stream[at : at + 2], "big") / 32768 - 1 for at in range(0, len(stream), 2)]
    length = math.sqrt(sum(each * each for each in values)) or 1.0
    return [round(each / length, 6) for each in values]


def _digest(body: dict[str, Any]) -> bytes:
    """Return the digest that decides the answer: of the question, without parameters such as the temperature."""
    asked = {name: body.get(name) for name in ("model", "messages", "response_format")}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


def _below(digest: bytes, name: str) -> bytes:
    return hashlib.sha256(digest + name.encode()).digest()
