"""What botocore and moto do over and over for each of a proof's hundred thousand requests, done once."""

from __future__ import annotations

import copy
import functools
import gc
import io
from typing import Any

from botocore import useragent
from botocore.hooks import EventAliaser
from botocore.loaders import JSONFileLoader, Loader
from botocore.signers import RequestSigner
from moto.core import responses, utils
from moto.core.botocore_stubber import BotocoreStubber
from moto.core.request import Request, environ_key_for_header
from moto.core.serialize import AttributePicker, BaseJSONSerializer
from moto.dynamodb.parsing import ast_nodes, expressions, validators
from moto.dynamodb.responses import DynamoHandler

_nodes: Any = ast_nodes  # moto leaves these modules without types
_expressions: Any = expressions
_validators: Any = validators


@functools.cache
def set_pace() -> None:
    """Make requests cheaper in this process, with the same answers."""
    _load_models_once()
    _find_models_once()
    _alias_events_once()
    _find_attributes_at_once()
    _read_expressions_once()
    _check_expressions_once()
    _walk_expressions_by_kind()
    _leave_requests_unsigned()
    _find_tables_at_once()


@functools.cache
def freeze() -> None:
    """Let the garbage collector pass over what has been loaded by now: service models are large, and for ever."""
    gc.collect()
    gc.freeze()


def _load_models_once() -> None:
    JSONFileLoader.load_file = _of_path(functools.cache(JSONFileLoader().load_file))  # type: ignore[method-assign]
    user_agent: Any = useragent.UserAgentString
    user_agent.to_string = lambda _: "Backhaul"
    names = functools.cache(utils.method_names_from_class)
    responses.method_names_from_class = names  # type: ignore[attr-defined]


def _of_path(load: Any) -> Any:
    return lambda _, path: load(path)


def _find_models_once() -> None:
    """Spare each new session the search of four hundred folders for the newest model of each service."""
    find: Any = Loader.load_service_model
    found: dict[tuple[Any, ...], Any] = {}

    def once(loader: Loader, *wanted: Any, **named: Any) -> Any:
        key = (*loader.search_paths, *wanted, *sorted(named.items()))
        if key not in found:
            found[key] = find(loader, *wanted, **named)
        return found[key]

    Loader.load_service_model = once  # type: ignore[method-assign, assignment]


def _alias_events_once() -> None:
    """Spare each new client the search for the present names of the same events."""
    aliaser: Any = EventAliaser  # the stubs leave out what is private
    alias = functools.cache(aliaser(None)._alias_event_name)
    aliaser._alias_event_name = lambda _, event: alias(event)


def _find_attributes_at_once() -> None:
    """Spare moto the search for each attribute of an answer from DynamoDB under all names that other services use.

    moto holds them under their own names; a value of a plain type stands in a table as it stands in an answer.
    """
    serializer: Any = BaseJSONSerializer
    serialize, pick = serializer._serialize_type_structure, AttributePicker.__call__

    def serialized(self: Any, into: Any, value: Any, shape: Any, key: str) -> None:
        if shape.name == "AttributeValue" and isinstance(value, dict) and value.keys() <= {"S", "N", "BOOL", "NULL"}:
            into[key] = value
        else:
            serialize(self, into, value, shape, key)

    def picked(picker: AttributePicker, context: Any) -> Any:
        if isinstance(context.obj, dict) and context.service_model.service_name == "dynamodb":
            return context.obj.get(context.key)
        return pick(picker, context)

    serializer._serialize_type_structure = serialized
    AttributePicker.__call__ = picked  # type: ignore[method-assign, assignment]


def _read_expressions_once() -> None:
    """Spare moto reading an expression of an update twice each time, and copying it by way of pickle's protocol.

    What it changes of an expression, it changes in the copy.
    """
    parser = _expressions.UpdateExpressionParser
    parser.make = functools.cache(parser.make)
    _validators.deepcopy = _copied


def _copied(value: Any) -> Any:
    if not isinstance(value, _nodes.Node):
        return copy.deepcopy(value)
    made = copy.copy(value)
    if value.children is not None:
        made.children = [_copied(each) for each in value.children]
        for each in made.children:
            if isinstance(each, _nodes.Node):
                each.parent = made
    return made


def _check_expressions_once() -> None:
    """Spare moto counting the clauses of an update, and comparing its paths, each time it meets the same one."""
    validator = _validators.UpdateExpressionValidator
    begin, validate = validator.__init__, validator.validate
    passed: set[tuple[Any, ...]] = set()

    def begun(self: Any, expression: Any, **given: Any) -> None:
        begin(self, expression, **given)
        # Expressions are kept for ever by now (`_read_expressions_once`), so no other gets the same identity.
        self.known_as = (id(expression), *sorted((given["expression_attribute_names"] or {}).items()))
        if self.known_as in passed:
            ours = (_validators.ActionCountValidator, _validators.OverlappingPathsValidator)
            self.processors = [each for each in self.processors if not isinstance(each, ours)]

    def validated(self: Any) -> Any:
        node = validate(self)
        passed.add(self.known_as)
        return node

    validator.__init__, validator.validate = begun, validated


def _leave_requests_unsigned() -> None:
    """Spare requests to the tables their signature, which moto does not read; what is presigned stays signed."""
    signer: Any = RequestSigner
    sign = signer.sign

    def signed(self: Any, operation_name: str, request: Any, *rest: Any, **named: Any) -> None:
        if self._service_id != "DynamoDB":
            sign(self, operation_name, request, *rest, **named)

    signer.sign = signed


def _find_tables_at_once() -> None:
    """Spare requests to the tables moto's search through the addresses of two hundred services, and most of WSGI."""
    process = BotocoreStubber.process_request

    def processed(stubber: BotocoreStubber, request: Any) -> Any:
        if not request.url.startswith("https://dynamodb."):
            return process(stubber, request)
        made = Request(_environ_of(request))
        return DynamoHandler.dispatch(made, request.url, made.headers)

    BotocoreStubber.process_request = processed  # type: ignore[method-assign, assignment]


def _environ_of(request: Any) -> dict[str, Any]:
    host = request.url.removeprefix("https://").partition("/")[0]
    headers = {
        environ_key_for_header(name): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    return headers | {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": host,
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "CONTENT_LENGTH": str(len(request.body)),  # a fault may have changed the body
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(request.body),
    }


def _walk_expressions_by_kind() -> None:
    """Spare moto asking of every node of an expression whether a step handles it: that depends on the node's class."""
    handled: dict[tuple[type, type], bool] = {}

    def walk(step: Any, node: Any, place: int = -1) -> Any:
        kind = (type(step), type(node))
        if kind not in handled:
            handled[kind] = isinstance(node, step.nodes_to_be_processed())
        if not isinstance(node, _nodes.Node):
            return node
        parent = node.parent
        for at, child in enumerate(node.children or ()):
            step.pre_processing_of_child(node, at)
            walk(step, child, at)
        if handled[kind]:
            node = step.process(node)
            node.parent = parent
            if parent:
                parent.children[place] = node
        return node

    _nodes.DepthFirstTraverser.traverse_node_recursively = walk
