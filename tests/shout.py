"""The smallest map, for tests that care about the pipeline and not about the work."""

from backhaul import Context, Lines, Processor


class Shout(Processor):
    """Write every line in capitals."""

    name = "shout"
    reads = Lines()

    def process(self, record: str, ctx: Context) -> str:
        ctx.tally("shouted")
        return record.upper()
