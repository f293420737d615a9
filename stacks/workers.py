"""The functions of a run's states, each with its grants."""

from __future__ import annotations

from dataclasses import replace

from aws_cdk import Duration
from constructs import Construct

from backhaul.settings import Settings
from stacks.function import WHOLE_CPU, Functions
from stacks.grants import allow
from stacks.monitoring import dead_letters
from stacks.storage import Storage


class Workers(Construct):
    """What the states of a run call; which state comes when is written in `workflow.py`."""

    def __init__(self, scope: Construct, name: str, *, storage: Storage, functions: Functions) -> None:
        super().__init__(scope, name)
        self.failed_chunks = dead_letters(self, "failed-chunks")
        stored = Settings(data_bucket=storage.bucket.bucket_name, jobs_table=storage.jobs.table_name)
        failing = replace(stored, failed_chunks_url=self.failed_chunks.queue_url)

        self.plan = functions.declare(
            self,
            "plan",
            settings=stored,
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Query", on=storage.jobs.table_arn),
                allow("s3:GetObjectVersion", on=storage.objects("input/data")),
                # A redrive plans from what the run before it planned.
                allow("s3:GetObjectVersion", "s3:PutObject", on=storage.objects("plan/*")),
            ],
            timeout=Duration.minutes(5),
            memory=WHOLE_CPU,  # quoted CSV is read through once
        )
        self.process = functions.declare(
            self,
            "process",
            settings=failing,
            grants=[
                allow(
                    "dynamodb:GetItem",
                    "dynamodb:UpdateItem",
                    "dynamodb:PutItem",  # the answers of steps
                    "dynamodb:Query",
                    on=storage.jobs.table_arn,
                ),
                allow("s3:GetObjectVersion", on=storage.objects("input/data")),
                allow("s3:GetObject", "s3:PutObject", on=[storage.objects("results/*"), storage.objects("steps/*")]),
                allow("sqs:SendMessage", on=self.failed_chunks.queue_arn),
            ],
            timeout=Duration.seconds(functions.stage.worker_timeout_seconds),
            memory=WHOLE_CPU,
        )
        self.merge = functions.declare(
            self,
            "merge",
            settings=replace(failing, flow_table=storage.flow.table_name),
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Query", on=storage.jobs.table_arn),
                # What the job has cost, once what dead workers held is settled.
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", on=storage.flow.table_arn),
                allow("s3:GetObject", on=storage.objects("results/*")),
                allow("s3:GetObjectVersion", on=storage.objects("plan/*")),
                allow("s3:PutObject", on=[storage.objects("output/*"), storage.objects("receipt/*")]),
                allow("s3:AbortMultipartUpload", on=storage.objects("output/*")),
                allow("sqs:SendMessage", on=self.failed_chunks.queue_arn),
            ],
            timeout=Duration.minutes(15),
            memory=WHOLE_CPU,
        )
        self.conclude = functions.declare(
            self,
            "conclude",
            settings=Settings(jobs_table=storage.jobs.table_name),
            grants=[allow("dynamodb:GetItem", "dynamodb:UpdateItem", on=storage.jobs.table_arn)],
            timeout=Duration.seconds(30),
        )
        self.all = (self.plan, self.process, self.merge, self.conclude)
