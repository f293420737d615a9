"""What a request to AWS says: its target, its step and its key, read from the bytes that botocore sends."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSPreparedRequest

from prove.history import Call

_PARTITION = re.compile(r"T#([^#]+)#J#([0-9a-z]{26})")
_OBJECT = re.compile(r"t/([^/]+)/j/([0-9a-z]{26})/([a-z]+)")
_SHARD_KEY = re.compile(r"SHARD#(\d{6})")
_SHARD_FILE = re.compile(r"/results/(\d{6})")
_WRITES = frozenset({"UpdateItem", "PutItem", "DeleteItem", "TransactWriteItems", "BatchWriteItem"})

Key = tuple[str, str, str]
"""Table, pk and sk of an item."""


def read_request(service: str, operation: str, request: AWSPreparedRequest) -> Call:
    """Return a request as the history holds it, with its number, time and actor still to be filled in."""
    call = Call(0, 0.0, "", "", operation, "", "", "", {})
    if service == "s3":
        _read_object(call, request)
    else:
        call.request = json.loads(body_of(request) or b"{}")
        if service == "dynamodb":
            _read_item(call)
        else:
            call.target = {"sfn": "run", "eventbridge": "bus", "sqs": "queue"}.get(service, service)
            call.step = operation
            call.subject = str(call.request.get("name") or call.request.get("executionArn", ""))
    return call


def body_of(request: AWSPreparedRequest) -> bytes:
    """Return the bytes of a request's body."""
    body: Any = request.body or b""
    return body.encode() if isinstance(body, str) else bytes(body)


def keys_written(call: Call) -> tuple[Key, ...]:
    """Return the items that a request to DynamoDB writes."""
    if call.operation not in _WRITES:
        return ()
    if call.operation == "TransactWriteItems":
        return tuple(_key(next(iter(each.values()))) for each in call.request["TransactItems"])
    if call.operation == "BatchWriteItem":
        return tuple(
            _key({"TableName": table, **next(iter(each.values()))})
            for table, items in call.request["RequestItems"].items()
            for each in items
        )
    return (_key(call.request),)


def plain(value: dict[str, Any]) -> Any:
    """Return a value in DynamoDB's own JSON as a plain one."""
    ((kind, held),) = value.items()
    match kind:
        case "N":
            return int(held) if re.fullmatch(r"-?\d+", str(held)) else float(held)
        case "M":
            return {name: plain(each) for name, each in held.items()}
        case "L":
            return [plain(each) for each in held]
        case "SS" | "NS" | "BS":
            return sorted(held)
        case "NULL":
            return None
        case _:
            return held


def plain_item(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item as plain values."""
    return {name: plain(value) for name, value in item.items()}


def _key(request: dict[str, Any]) -> Key:
    key = request.get("Key") or request["Item"]
    return request["TableName"].rpartition("/")[2], key["pk"]["S"], key["sk"]["S"]


def _read_item(call: Call) -> None:
    written = keys_written(call)
    if written or "Key" in call.request:
        table, pk, sk = (written or (_key(call.request),))[0]
        call.subject = f"{pk}|{sk}"
        call.target = _target(table, sk)
    else:
        values = plain_item(call.request.get("ExpressionAttributeValues", {}))
        call.subject = str(values.get(":pk", call.request.get("IndexName", "")))
        call.target = call.request.get("IndexName", "shards" if ":pk" in values else "items")
    _note_job(call, _PARTITION.search(call.subject))
    if found := _SHARD_KEY.search(call.subject):
        call.shard = int(found[1])
    call.step = _item_step(call)


def _target(table: str, sk: str) -> str:
    if "flow" in table:
        return "flow"
    return sk.partition("#")[0].lower()


def _item_step(call: Call) -> str:
    expression = call.request.get("UpdateExpression", "")
    if call.operation == "UpdateItem" and call.target == "shard":
        if re.search(r"\bADD\b.*\battempt\b", expression):
            return "claim"
        for word, step in (("parts", "commit"), ("crash", "note crash"), ("beat_at", "beat")):
            if re.search(rf"#?{word}\b", expression):
                return step
    if call.operation == "UpdateItem" and call.target == "job":
        values = plain_item(call.request.get("ExpressionAttributeValues", {}))
        return f"move {values[':state']}" if ":state" in values else "note job"
    verbs = {"UpdateItem": "update", "PutItem": "create", "GetItem": "read", "DeleteItem": "delete", "Query": "list"}
    if call.target == "flow":
        name = re.split(r"[|#]", call.subject)[0].lower()
        return f"{_FLOW.get(expression.partition(' ')[0], 'update')} {name}"
    return f"{verbs.get(call.operation, call.operation)} {call.target}"


_FLOW = {"ADD": "take", "DELETE": "drop", "SET": "set", "REMOVE": "unset", "": "read"}


def _read_object(call: Call, request: AWSPreparedRequest) -> None:
    url = urlsplit(request.url)
    key = unquote(url.path).lstrip("/")
    if url.netloc.startswith(("s3.", "s3-")):
        key = key.partition("/")[2]
    call.subject = key
    call.request = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    if held := request.headers.get("Range"):
        call.request["Range"] = _text(held)
    if held := request.headers.get("x-amz-copy-source"):
        call.request["CopySource"] = _text(held)
    found = _OBJECT.search(key)
    _note_job(call, found)
    call.target = found[3] if found else "object"
    if part := _SHARD_FILE.search(key):
        call.shard = int(part[1])
    verbs = {"PutObject": "put", "GetObject": "get", "HeadObject": "head", "CompleteMultipartUpload": "complete"}
    call.step = f"{verbs.get(call.operation, call.operation)} {call.target}"


def _note_job(call: Call, found: re.Match[str] | None) -> None:
    if found:
        call.job_id = found[2]


def _text(header: str | bytes) -> str:
    return header.decode() if isinstance(header, bytes) else header
