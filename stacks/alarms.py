"""Alarms for what needs a person: alarms → topic → mail."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Annotations, Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backhaul.operations.contents import Queue
from stacks.review import accept
from stacks.stage import DeploymentSettings

_NOBODY = (
    "Nobody receives the alarms of this deployment. Name a mail address, and deploy again: "
    "-c alarm_emails=ops@example.com (several with commas)."
)
_UNDELIVERED = "A mail that is not delivered is no loss: the alarm rings on in CloudWatch until its cause is gone."


class Alarms(Construct):
    """The topic and the alarms; each alarm's description says what an operator must do."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        stage: DeploymentSettings,
        dead_letters: Mapping[Queue, sqs.Queue],
        sweep: lambda_.IFunction,
    ) -> None:
        super().__init__(scope, name)
        self.topic = self._topic(stage)
        for queue, queue_of_it in dead_letters.items():
            self._on_dead_letters(queue, queue_of_it)
        self._on_sweep(
            "stalled-shards",
            "StalledShards",
            "Workers of running jobs have given no sign of life for too long, and no others have taken over their "
            "shards. "
            f"{self._command('doctor')} names the jobs and says what to do.",
        )
        self._on_sweep(
            "jobs-past-deadline",
            "JobsPastDeadline",
            "Jobs are still running half an hour after their deadline, although the sweep should have ended them. "
            f"{self._command('doctor')} names them and says what is wrong.",
        )
        self._alarm(
            "sweep-silent",
            sweep.metric_invocations(period=_PERIOD, statistic=cloudwatch.Stats.SUM),
            "The sweep, which repairs jobs that got stuck between two stages, has not run for a quarter of "
            "an hour. Either "
            "the account's Lambda concurrency is used up (-c reserved_workers limits the share of Backhaul's workers), "
            f"or the sweep's rule is disabled. Until it runs again, {self._command('doctor --repair')} "
            "repairs the same.",
            below=1,
            periods=3,
        )
        self._alarm(
            "sweep-failing",
            sweep.metric_errors(period=_PERIOD, statistic=cloudwatch.Stats.SUM),
            "The sweep, which repairs jobs that got stuck between two stages, fails again and again: it cannot handle "
            f"some jobs, or all of them. The log of its function names them, and so does {self._command('doctor')}.",
            above=_SWEEPS_FAILED,
        )

    def _topic(self, stage: DeploymentSettings) -> sns.Topic:
        # Not KMS: CloudWatch alarms cannot use the AWS managed key of SNS, and an alarm's text, which is no secret,
        # needs no key of our own.
        topic = sns.Topic(self, "topic", enforce_ssl=True)
        # `enforce_ssl` replaces the topic's default policy, by which the account's alarms may publish to it.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        for address in stage.alarm_emails:
            subscription = topic.add_subscription(subscriptions.EmailSubscription(address))
            accept(subscription, _UNDELIVERED, "Serverless-SNSRedrivePolicy")
        if stage.tells_nobody:
            Annotations.of(self).add_warning_v2("backhaul:alarms-reach-nobody", _NOBODY)
        return topic

    def _on_dead_letters(self, name: Queue, dead_letters: sqs.Queue) -> None:
        self._alarm(
            f"{name}-waiting",
            dead_letters.metric_approximate_number_of_messages_visible(period=_PERIOD, statistic=_MOST),
            f"Dead letters wait for your decision in the queue {name}, which holds {name.kind.holds}. "
            f"{self._command(f'dlq list --queue {name}')} shows each with its cause. Then "
            f"{self._command(f'dlq redrive --queue {name} --why REASON')} sends them through the pipeline again, and "
            f"{self._command('dlq discard ID --why REASON')} deletes one.",
        )
        self._alarm(
            f"{name}-old",
            # Not the age of the oldest message: SQS leaves out messages that were received three times, and each
            # `backhaul dlq list` receives them.
            dead_letters.metric_approximate_number_of_messages_visible(period=Duration.hours(1), statistic=_MOST),
            f"The queue {name} has not been empty for a day. SQS deletes a dead letter after 14 days. List them with "
            f"{self._command(f'dlq list --queue {name}')}, and redrive or discard each before then.",
            periods=24,
        )

    def _command(self, words: str) -> str:
        """Return the command line that does this to this deployment, and not to the default one."""
        return f"`backhaul {words} --stack {Stack.of(self).stack_name}`"

    def _on_sweep(self, name: str, metric: str, description: str) -> None:
        """Declare an alarm on a count of the sweep; the dimension is the one that `lambdas/runtime.py` sets."""
        counted = cloudwatch.Metric(
            namespace="Backhaul",
            metric_name=metric,
            dimensions_map={"service": Stack.of(self).stack_name},
            period=_PERIOD,
            statistic=_MOST,
        )
        self._alarm(name, counted, description)

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.IMetric,
        description: str,
        *,
        above: float = 0,
        below: float | None = None,
        periods: int = 1,
    ) -> None:
        """Declare an alarm on a metric that is `above` or `below` a value for `periods` of its periods in a row."""
        rings, silence = cloudwatch.ComparisonOperator, cloudwatch.TreatMissingData
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_description=description,
            metric=metric,
            threshold=above if below is None else below,
            comparison_operator=rings.GREATER_THAN_THRESHOLD if below is None else rings.LESS_THAN_THRESHOLD,
            evaluation_periods=periods,
            # SQS sends no metric for an unused queue, so a missing value is good there. For what must happen all the
            # time, such as the sweep, a missing value is the fault.
            treat_missing_data=silence.NOT_BREACHING if below is None else silence.BREACHING,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))


_PERIOD = Duration.minutes(5)
_SWEEPS_FAILED = 6
"""Failed calls in one period, which has five sweeps and Lambda's two retries of each. Two sweeps may fail with all
their retries, because the next one makes up for them."""
_MOST = cloudwatch.Stats.MAXIMUM
