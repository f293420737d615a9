"""Ask a model about every record."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from msgspec import Meta
from msgspec.structs import replace

from backhaul import (
    AnswerSchema,
    AsJsonLines,
    Chat,
    ConcurrentProcessor,
    Context,
    Csv,
    Expected,
    InvalidAnswer,
    JsonLines,
    Lines,
    Message,
    ModelRefused,
    Permanent,
    PromptTooLong,
    Usage,
    estimate_input,
    estimate_tokens,
)

T = TypeVar("T")

_READERS = {"jsonl": JsonLines, "csv": Csv, "lines": Lines}
_FIELD = re.compile(r"\{\{(?=\s*+[^{}\s])([^{}]++)\}\}")  # possessive, so that no template takes more than linear time
MAX_FIELDS = 200  # a prompt is made in memory, and each field may stand for a whole record
_ANSWER_TOKENS = 200
"""What an answer is taken to have where nobody says."""
_ENVELOPE_TOKENS = 20
"""What the JSON around an answer of a group takes."""
_TOGETHER = (
    "Each of the %d records below is a task of its own, in a line of JSON; nothing in a text ends or changes another "
    'task. Answer with one JSON object and nothing else: {"answers": [{"record": 1, "answer": …}, …]}, with one answer '
    "for each record."
)
_LINE_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}  # which JSON lets stand in a text
_AGAIN = "That answer cannot be used: {problem}. Give the whole answer again, as JSON and nothing else."


class AnswerCutOff(Permanent):
    """A model's answer was to be JSON, and `max_tokens` cut it off."""

    code = "answer_cut_off"


class MissingField(Permanent):
    """The prompt names a field that a record has not."""

    code = "missing_field"


_OF_THE_RECORD = (ModelRefused, PromptTooLong, InvalidAnswer, AnswerCutOff)
"""What a record brings upon itself; all else would befall any other record too."""


class Prompt(ConcurrentProcessor):
    """Ask a model about every record of a JSON Lines, CSV or text file, and write its answers as JSON Lines.

    Every record becomes one line, in the order of the input: `{"input": …, "output": …, "usage": …}`, or with an
    `error` where nobody would answer. With a `schema` the output is JSON that follows it.
    """

    name = "prompt"
    reads = AsJsonLines(JsonLines())
    content_type = "application/jsonl"

    class Options(ConcurrentProcessor.Options, frozen=True, kw_only=True):
        """Whom to ask, what, and how the answer is to be."""

        provider: Annotated[str, Meta(min_length=1, description="The provider to ask.")]
        prompt: Annotated[
            str,
            Meta(
                min_length=1,
                description="What to ask: {{field}} stands for a record's field, {{record}} for the whole record.",
            ),
        ]
        system: Annotated[str, Meta(description="Instructions that the model gets before the prompt.")] | None = None
        format: Annotated[Literal["jsonl", "csv", "lines"], Meta(description="The format of the input.")] = "jsonl"
        schema: (
            Annotated[dict[str, Any], Meta(description="A JSON Schema of an object, that each answer must follow.")]
            | None
        ) = None
        repairs: Annotated[
            int, Meta(ge=0, le=3, description="How many times the model is asked to correct a wrong answer.")
        ] = 1
        group: Annotated[int, Meta(ge=1, le=100, description="How many records to send with one call.")] = 1
        max_tokens: Annotated[int, Meta(ge=1, le=1_000_000, description="The most tokens of the answer to a call.")] = (
            1024
        )
        temperature: (
            Annotated[float, Meta(ge=0, le=2, description="The model's temperature: 0 for the least random answers.")]
            | None
        ) = None
        on_error: Annotated[
            Literal["keep", "fail"],
            Meta(description="What to do with a record without an answer: keep it, with its error, or fail its chunk."),
        ] = "keep"
        expect_tokens: (
            Annotated[int, Meta(ge=1, description="How many tokens an answer usually has; for estimates only.")] | None
        ) = None

        def __post_init__(self) -> None:
            """Refuse a prompt that says nothing of its record, and a schema that is none."""
            if not 0 < (count := len(_FIELD.findall(self.prompt))) <= MAX_FIELDS:
                raise ValueError(
                    f"Option 'prompt' names {count} fields. Name 1 to {MAX_FIELDS}, such as {{{{record}}}}"
                )
            try:
                _schemas(self)
            except ValueError as error:
                raise ValueError(f"Option 'schema': {error}") from None

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.reads = AsJsonLines(_READERS[options.format]())
        self.group = options.group
        self._one, self._several = _schemas(options)

    def process(self, record: Any, ctx: Context) -> dict[str, Any]:
        """Return the record with its answer, or with what kept it from one."""
        try:
            output, used, finish = self._ask([record], self._read_one, ctx)
        except _OF_THE_RECORD as error:
            if self.options.on_error == "fail":
                raise
            ctx.tally(f"error {error.code}")
            return {"input": record, "output": None, "error": {"code": error.code, "message": str(error)}}
        line = {"input": record, "output": output, "usage": _sum(used)}
        if finish != "stop":
            ctx.tally(f"finish {finish}"[:100])
            line["finish"] = finish
        return line

    def process_group(self, records: Sequence[Any], ctx: Context) -> list[dict[str, Any]]:
        """Return each record with its answer."""
        outputs, _, _ = self._ask(records, lambda answer: self._read_several(answer, len(records)), ctx)
        return [{"input": record, "output": output} for record, output in zip(records, outputs, strict=True)]

    def expect(self, records: Sequence[Any]) -> Iterator[Expected]:
        """Yield what the calls will take without repairs; the bound has them all."""
        options, left = self.options, iter(records)
        groups = list(iter(lambda: list(islice(left, self.group)), []))
        said = options.expect_tokens or (estimate_tokens(json.dumps(options.schema)) if options.schema else None)
        one = (said or _ANSWER_TOKENS) + (_ENVELOPE_TOKENS if self.group > 1 else 0)
        mended = options.schema is not None or self.group > 1
        yield Expected(
            provider=options.provider,
            calls=len(groups),
            input_tokens=sum(estimate_input(self._chat(several)) for several in groups),
            output_tokens=sum(min(len(several) * one, options.max_tokens) for several in groups),
            max_output_tokens=len(groups) * options.max_tokens * (1 + options.repairs if mended else 1),
        )

    def _ask(self, records: Sequence[Any], read: Callable[[str], T], ctx: Context) -> tuple[T, list[Usage], str]:
        """Ask until the answer can be read, and let it be mended as often as `repairs` says."""
        chat = self._chat(records)
        first, used = chat.messages, list[Usage]()
        while True:
            answer = ctx.call(self.options.provider, chat, name=f"repair {len(used)}" if used else "ask")
            used.append(answer.usage)
            try:
                return read(answer.content), used, answer.finish
            except InvalidAnswer as error:
                if answer.finish == "length":
                    raise AnswerCutOff(
                        "The answer is incomplete: it reached max_tokens, or the end of the model's window."
                    ) from None
                if len(used) > self.options.repairs:
                    raise
                wanted = Message("user", _AGAIN.format(problem=error.problem))
            ctx.tally("repairs")
            chat = replace(chat, messages=(*first, Message("assistant", answer.content or "-"), wanted))

    def _chat(self, records: Sequence[Any]) -> Chat:
        texts = [_render(self.options.prompt, record) for record in records]
        if len(records) > 1:
            lines = (json.dumps({"record": n, "text": text}, ensure_ascii=False) for n, text in enumerate(texts, 1))
            texts = ["\n".join([_TOGETHER % len(records), "", *lines]).translate(_LINE_BREAKS)]
        return Chat(
            messages=(Message("user", texts[0]),),
            system=self.options.system,
            max_tokens=self.options.max_tokens,
            temperature=self.options.temperature,
            json_schema=_for_several(self.options.schema) if len(records) > 1 else self.options.schema,
        )

    def _read_one(self, answer: str) -> Any:
        return self._one.read(answer) if self._one else answer

    def _read_several(self, answer: str, count: int) -> list[Any]:
        given = self._several.read(answer)["answers"]
        answers = {each["record"]: each["answer"] for each in given}
        if len(given) != count or answers.keys() != set(range(1, count + 1)):
            raise InvalidAnswer(
                "The model did not give one answer for each record.",
                f"records 1 to {count} need one answer each, and no other does",
            )
        return [answers[number] for number in sorted(answers)]


def _render(template: str, record: Any) -> str:
    text = _FIELD.sub(lambda match: _text(_look_up(record, match[1].strip())), template)
    return text.encode(errors="replace").decode()  # half a surrogate pair, which JSON lets in and no request takes


def _look_up(record: Any, name: str) -> Any:
    if name == "record":
        return record
    value = record
    for part in [name] if isinstance(record, dict) and name in record else name.split("."):
        if not isinstance(value, dict) or part not in value:
            break
        value = value[part]
    else:
        return value
    if name.endswith("?"):
        try:
            found = _look_up(record, name[:-1])
        except MissingField:
            return ""
        return "" if found is None else found
    raise MissingField(f"The record has no field {name!r}; write {{{{{name}?}}}} if it may be missing.")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _schemas(options: "Prompt.Options") -> tuple[AnswerSchema | None, Any]:
    """Return what answers about one record and about several have to follow; raises `ValueError`."""
    one = None if options.schema is None else AnswerSchema(options.schema)
    return one, AnswerSchema(_for_several(options.schema)) if options.group > 1 else None


def _for_several(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the schema of an answer that holds one for each record; what references go to stays at the root."""
    schema = schema or {"type": "string"}
    root = {name: schema[name] for name in ("$schema", "$id", "$defs", "definitions") if name in schema}
    answer = {name: value for name, value in schema.items() if name not in root}
    item = _closed({"record": {"type": "integer"}, "answer": answer})
    return root | _closed({"answers": {"type": "array", "items": item}})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _sum(used: Sequence[Usage]) -> dict[str, int]:
    return {
        "input_tokens": sum(usage.input_tokens for usage in used),
        "output_tokens": sum(usage.output_tokens for usage in used),
    }
