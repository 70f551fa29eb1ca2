"""Puts a run of evaluate.py into the database: visible from its beginning, with each task's figures as they come. The run of a
shard also keeps the values behind its figures, so that it can go on where it was cut short."""
import json

from intervals import METRICS
from library import Store
from tasks import Row

KEPT = ("nll", "passkey_accuracy")  # all other figures follow from these


def run_row(args, argv, version):
    """The run as it begins; the store adds machine, commit and time."""
    import torch
    return {"label": args.label, "command": "evaluate", "argv": json.dumps(["traces/model/evaluate.py", *argv]),
            "seed": args.seed, "tool_version": version, "gpu_reason": "the model runs on the host",
            "compiler": f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"}


def trace_row(m, sha256, version, name, kind, data, n_tokens, n_steps, **metadata):
    import xxhash
    return {"xxh128": xxhash.xxh3_128_hexdigest(data), "name": name, "kind": kind, "model": m.name, "file_bytes": len(data),
            "n_tokens": n_tokens, "n_steps": n_steps, "n_layers": m.n_layers, "n_q_heads": m.n_q_heads,
            "n_kv_heads": m.n_kv_heads, "head_dim": m.d, "softmax_scale": m.softmax_scale,
            "metadata": json.dumps(metadata | {"weights_sha256": sha256, "created_by": version})}


class Recorder:
    """One run. write() commits, so what a task found stays whatever comes after."""

    def __init__(self, library, path, run, m, variants, shard=None):
        """shard: Sweep.identity(), or None"""
        self._store, self._m, self._variants, self._shard = Store(library, path), m, variants, shard
        try:
            if shard:
                self.run_id, self.is_resumed = self._store.begin_shard(shard, run)
            else:
                self.run_id, self.is_resumed = self._store.begin_run(run), False
        except BaseException:
            self._store.close()
            raise

    def known(self, trace, seq_len, arms, metric):
        """{(policy, budget): values} of a run that goes on; None unless all are there."""
        if not self.is_resumed:
            return None
        trace_id, values = self._store.add_trace(trace), {}
        for policy, budget in arms:
            config_id = self._store.add_config(self._config(Row("", policy, budget, {}), trace_id, seq_len))
            values[policy, budget] = self._store.values(self.run_id, config_id, metric)
        return values if all(len(v) for v in values.values()) else None

    def write(self, trace, seq_len, rows):
        trace_id = self._store.add_trace(trace)
        for row in rows:
            config_id = self._store.add_config(self._config(row, trace_id, seq_len))
            for name, values in row.values.items():
                unit, better, description = METRICS[name]
                self._store.add_measurement(self.run_id, config_id, {
                    "source": "host", "metric": name, "unit": unit, "better": better, "description": description}, values,
                    keep=self._shard is not None and name in KEPT)
        self._store.flush()

    def _config(self, row, trace_id, seq_len):
        policy, selection = row.policy.partition(":")[0], "group" if "select=group" in row.policy else "head"
        return {"trace_id": trace_id, "policy": policy, "variant": self._variants[row.policy], "n_q_heads": self._m.n_q_heads,
                "n_kv_heads": self._m.n_kv_heads, "head_dim": self._m.d, "dtype": "F32", "seq_len": seq_len,
                "budget": row.budget, "batch": 1, "selection": selection if policy == "adamas" else None, "cache": None,
                "launch": "host"}

    def end(self, status, reason=None):
        """Ends the run and closes the database."""
        try:
            (self._store.end_shard if self._shard else self._store.end_run)(self.run_id, status, reason)
        finally:
            self._store.close()
