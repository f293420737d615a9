"""The functions of a run's states, each with its grants."""

from __future__ import annotations

from aws_cdk import Duration
from constructs import Construct

from backhaul.settings import Settings
from stacks.function import WHOLE_CPU, Functions
from stacks.grants import allow
from stacks.storage import Storage


class Workers(Construct):
    """What the states of a run call; which state comes when is written in `workflow.py`."""

    def __init__(self, scope: Construct, name: str, *, storage: Storage, functions: Functions) -> None:
        super().__init__(scope, name)
        stored = Settings(data_bucket=storage.bucket.bucket_name, jobs_table=storage.jobs.table_name)

        self.plan = functions.declare(
            self,
            "plan",
            settings=stored,
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", on=storage.jobs.table_arn),
                allow("s3:GetObjectVersion", on=storage.objects("input/data")),
                allow("s3:PutObject", on=storage.objects("plan/*")),
            ],
            timeout=Duration.minutes(5),
            memory=WHOLE_CPU,  # quoted CSV is read through once
        )
        self.process = functions.declare(
            self,
            "process",
            settings=stored,
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", on=storage.jobs.table_arn),
                allow("s3:GetObjectVersion", on=storage.objects("input/data")),
                allow("s3:PutObject", on=storage.objects("results/*")),
            ],
            timeout=Duration.minutes(5),
            memory=WHOLE_CPU,
        )
        self.merge = functions.declare(
            self,
            "merge",
            settings=stored,
            grants=[
                allow("dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:Query", on=storage.jobs.table_arn),
                allow("s3:GetObject", on=[storage.objects("plan/*"), storage.objects("results/*")]),
                allow("s3:PutObject", on=[storage.objects("output/*"), storage.objects("receipt/*")]),
                allow("s3:AbortMultipartUpload", on=storage.objects("output/*")),
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
