"""An example of work in several steps, each of which needs the one before."""

import json
from typing import Annotated

from msgspec import Meta

from backhaul import AnswerSchema, AsJsonLines, Chat, ConcurrentProcessor, Expected, Lines, Message, estimate_tokens

PLAN = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}}},
    "required": ["questions"],
    "additionalProperties": False,
}
ANSWER_TOKENS = 300


class Research(ConcurrentProcessor):
    """Look into every line of a text: plan questions, answer them, and write a report from the answers.

    Three calls a line, each of them a step: whoever takes over after a crash goes on after the last answer.
    """

    name = "research"
    reads = AsJsonLines(Lines())
    content_type = "application/jsonl"

    class Options(ConcurrentProcessor.Options, frozen=True):
        """Whom to ask, and how much."""

        provider: Annotated[str, Meta(description="The provider to ask.")]
        questions: Annotated[int, Meta(ge=1, le=10, description="How many questions to plan for a topic.")] = 3
        max_tokens: Annotated[int, Meta(ge=1, description="How long each of the three answers may get.")] = 1024

    def process(self, record, ctx):
        if not record.strip():
            return None
        planned = self.ask(ctx, "plan", f"Write {self.options.questions} questions that explore: {record}", PLAN)
        questions = AnswerSchema(PLAN).read(planned)["questions"]
        listed = "\n".join(f"{number}. {question}" for number, question in enumerate(questions, 1))
        findings = self.ask(ctx, "answer", f"Topic: {record}\nAnswer each of these questions:\n{listed}")
        report = self.ask(ctx, "report", f"Write a short report about: {record}\nUse these findings only:\n{findings}")
        return {"topic": record, "questions": questions, "report": report}

    def ask(self, ctx, name, text, schema=None):
        chat = Chat(messages=[Message("user", text)], max_tokens=self.options.max_tokens, json_schema=schema)
        return ctx.call(self.options.provider, chat, name=name).content

    def expect(self, records):
        topics = [record for record in records if record.strip()]
        answer, calls = min(ANSWER_TOKENS, self.options.max_tokens), 3 * len(topics)
        prompts = sum(estimate_tokens(topic) for topic in topics) + 30 * len(topics)
        # The second call holds the first one's answer, and the third one the second's.
        read = 3 * prompts + 2 * answer * len(topics) + estimate_tokens(json.dumps(PLAN)) * len(topics)
        yield Expected(self.options.provider, calls, read, calls * answer, calls * self.options.max_tokens)
