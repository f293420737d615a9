"""What a redrive has to do: the chunks that are missing, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from backhaul.progress import ShardRecord
from backhaul.shard import Shard


def to_redo(plan: Iterable[Shard], records: Mapping[int, ShardRecord], *, only_failed: bool) -> list[Shard]:
    """Return the shards of which something is missing, with every other chunk of theirs left out.

    With `only_failed` a chunk that was never tried is left out as well.
    """
    found = []
    for shard in plan:
        record = records.get(shard.index, ShardRecord(shard.index))
        failed = {chunk.index for chunk in record.failed}
        missing = {chunk.index for chunk in shard.chunks} - record.done()
        wanted = missing & failed if only_failed else missing
        if wanted:
            found.append(replace(shard, skip=frozenset(chunk.index for chunk in shard.chunks) - wanted))
    return found
