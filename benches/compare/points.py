"""The points: machines that report their processors every ten seconds, after the public description of TSBS's "cpu-only".

Ten tags, ten fields that walk at random between 0 and 100 with two decimals. The same seed makes the same points.
"""

import random
from dataclasses import dataclass

FIELDS = [
    f"usage_{name}"
    for name in ["user", "system", "idle", "nice", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"]
]
TAGS = [
    "hostname", "region", "datacenter", "rack", "os", "arch", "team", "service", "service_version", "service_environment",
]
INTERVAL_SECONDS = 10
SECOND = 1_000_000_000
BODY_ROWS = 10_000


@dataclass(frozen=True)
class Points:
    """So many rows of so many machines; the newest is at `end_seconds`."""

    hosts: int
    rows: int
    end_seconds: int
    seed: int = 7
    name = "cpu"
    tables = ("cpu",)
    tag_names = TAGS
    serve = ()

    @property
    def kinds(self):
        from queries import KINDS

        return KINDS

    @property
    def caches(self):
        from queries import CACHES

        return CACHES

    @property
    def cached_kinds(self):
        from queries import CACHED_KINDS

        return CACHED_KINDS

    @property
    def steps(self):
        return max(self.rows // self.hosts, 1)

    @property
    def count(self):
        """Rows of all tables."""
        return self.steps * self.hosts

    @property
    def start_seconds(self):
        return self.end_seconds - (self.steps - 1) * INTERVAL_SECONDS

    def tags(self):
        """The tags of each machine, in the order of `TAGS`."""
        numbers = random.Random(self.seed)
        regions = ["us-east-1", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "ap-northeast-1"]
        for host in range(self.hosts):
            region = numbers.choice(regions)
            yield [
                f"host_{host}",
                region,
                region + numbers.choice("abc"),
                str(numbers.randrange(100)),
                numbers.choice(["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"]),
                numbers.choice(["x64", "x86"]),
                numbers.choice(["SF", "NYC", "LON", "CHI"]),
                str(numbers.randrange(20)),
                str(numbers.randrange(2)),
                numbers.choice(["production", "staging", "test"]),
            ]

    def bodies(self, rows=BODY_ROWS):
        """Line protocol, ordered by time, so many rows a body."""
        import numpy

        heads = ["cpu," + ",".join(map("=".join, zip(TAGS, tags))) for tags in self.tags()]
        line = "%s " + ",".join(f"{field}=%d.%02d" for field in FIELDS) + " %d"
        lines = []
        for time, walks in self.walks():
            values = numpy.stack([walks // 100, walks % 100], axis=2).reshape(self.hosts, -1).tolist()
            lines.extend(line % (head, *row, time) for head, row in zip(heads, values))
            while len(lines) >= rows:
                yield "\n".join(lines[:rows]).encode()
                del lines[:rows]
        if lines:
            yield "\n".join(lines).encode()

    def walks(self):
        """Each time in nanoseconds, with the hundredths that all machines report for it: whole, so that every reader sees the same numbers."""
        import numpy

        numbers = numpy.random.default_rng(self.seed)
        walks = numbers.integers(0, 10_001, (self.hosts, len(FIELDS)))
        for step in range(self.steps):
            walks = numpy.clip(walks + numbers.integers(-100, 101, walks.shape), 0, 10_000)
            yield (self.start_seconds + step * INTERVAL_SECONDS) * SECOND, walks

    def batches(self, rows=BODY_ROWS):
        """The same points as batches of Arrow, tags as dictionaries, at least so many rows a batch."""
        import numpy
        import pyarrow

        machines = list(self.tags())
        dictionaries = []
        for column in range(len(TAGS)):
            values = sorted({tags[column] for tags in machines})
            place = {value: number for number, value in enumerate(values)}
            dictionaries.append((numpy.array([place[tags[column]] for tags in machines], dtype="int32"), pyarrow.array(values)))

        def batch(times, hundredths):
            tags = [
                pyarrow.DictionaryArray.from_arrays(pyarrow.array(numpy.tile(codes, len(times))), values) for codes, values in dictionaries
            ]
            numbers = numpy.concatenate(hundredths)
            fields = [pyarrow.array(numbers[:, column] / 100.0) for column in range(len(FIELDS))]
            time = pyarrow.array(numpy.repeat(numpy.array(times, dtype="int64"), self.hosts), pyarrow.timestamp("ns"))
            return pyarrow.RecordBatch.from_arrays([*tags, *fields, time], [*TAGS, *FIELDS, "time"])

        times, hundredths = [], []
        for time, walks in self.walks():
            times.append(time)
            hundredths.append(walks)
            if len(times) * self.hosts >= rows:
                yield batch(times, hundredths)
                times, hundredths = [], []
        if times:
            yield batch(times, hundredths)
