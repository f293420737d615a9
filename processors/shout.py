from backhaul import Lines, Processor


class Shout(Processor):
    """Write every line in capitals."""

    name = "shout"
    reads = Lines()

    def process(self, record, ctx):
        return record.upper()
