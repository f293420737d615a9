"""Emptying a bucket that keeps every version, over moto."""

import boto3

from backhaul.store.stacks import StackStore


def test_a_bucket_is_emptied_of_all_versions_and_delete_markers_in_pages(deployment):
    s3 = deployment.s3
    for number in range(1001):
        s3.put_object(Bucket="data", Key=f"t/{number}", Body=b"")
    for number in range(3):
        s3.put_object(Bucket="data", Key="t/0", Body=b"again")
        s3.delete_object(Bucket="data", Key=f"t/{number}")
    stacks = StackStore(boto3.client("cloudformation"), s3)
    pages = list(stacks.empty("data"))
    assert (sum(pages), max(pages) <= 1000, len(pages) > 1) == (1001 + 3 + 3, True, True)
    left = s3.list_object_versions(Bucket="data")
    assert "Versions" not in left
    assert "DeleteMarkers" not in left
    stacks.delete_bucket("data")
    assert s3.list_buckets()["Buckets"] == []
    assert list(stacks.empty("data")) == []
    stacks.delete_bucket("data")
