"""Sweeps of the tests: small grids on the fake GPU and on the bundled trace, in shards."""
import json
import os

from conftest import BUNDLED, PROGRAM, Adamas, query

GRID = ["--seq-lens", "100,300", "--budgets", "16,64", "--heads", "4", "--kv-heads", "2,4", "--head-dim", "64", "--cap-ms", "2"]
LENGTHS = ["--seq-lens", "1024,2048,4096", "--budgets", "64,256", "--policies", "adamas,quest", "--timed-steps", "2"]
TRAFFIC = ["--generate", "rate=2,duration=30,input_tokens=400,output_tokens=30", "--model", "llama-3.1-8b", "--budgets",
           "64,256,1024", "--memory", "both"]

# Every row, but for what a clock said.
ROWS = ("SELECT source, stage, variant, q_heads, kv_heads, head_dim, seq_len, budget, batch, metric, unit, status, reason, "
        "dtype, selection, cache, launch, page_size, batch_lens, trace FROM stage_summary "
        "ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 17")
QUALITY = ("SELECT trace, policy, variant, seq_len, budget, metric, n, mean, p50, p95, p99, worst FROM quality_summary "
           "ORDER BY 1, 2, 3, 4, 5, 6")
CANDIDATES = ("SELECT c.stage, k.variant, k.seq_len, k.n_kv_heads, k.budget, c.kind, c.xxh128, c.parameters, c.verdict "
              "FROM candidate c JOIN config k USING (config_id) ORDER BY 1, 2, 3, 4, 5")
MODEL = ("SELECT stage, variant, q_heads, kv_heads, seq_len, budget, metric, median FROM stage_summary WHERE source = 'model' "
         "ORDER BY 1, 2, 3, 4, 5, 6, 7")


class Fleet:
    """Runs shards into a folder of databases, as machines would, and merges them."""

    def __init__(self, folder):
        self.folder = folder
        self.shards = folder / "shards"
        self.shards.mkdir()
        self.program = Adamas(folder)
        self.fake = Adamas(folder)
        self.fake.path = PROGRAM.parent / "tests/adamas-fake-gpu"

    def path(self, i):
        return self.shards / f"{i}.db"

    def run(self, command, shard=None, db=None, code=0, more=(), faults="", env=None):
        words = {"profile": GRID, "replay": [BUNDLED, *LENGTHS], "simulate": TRAFFIC}[command]
        program = self.fake if command == "profile" else self.program
        extra = ["--shard", shard] if shard else []
        db = db or self.path(shard.split("/")[0])
        result = program(command, *words, *extra, *more, "--db", db, "--quiet",
                         env={**os.environ, "ADAMAS_FAKE_GPU": faults, **(env or {})})
        assert code is None or result.code == code, result
        return result

    def all(self, command, n, **options):
        for i in range(1, n + 1):
            self.run(command, f"{i}/{n}", **options)

    def merge(self, *more, code=0, db="all.db"):
        result = self.program("db", "merge", self.shards, "--db", self.folder / db, *more)
        assert result.code == code, result
        return result

    def joined(self, *more, code=0, db="all.db"):
        """What the merge says of the sweeps."""
        return [row for row in json.loads(self.merge("--json", *more, code=code, db=db).out) if "sweep" in row]

    def ask(self, sql, db="all.db"):
        return query(self.folder / db, sql)
