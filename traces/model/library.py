"""libadamas.so through ctypes: attention under a policy (core/contract/adamas.h), and the database (core/store/store_api.h)."""
import ctypes
import sys
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

import numpy as np

from bad_input import BadInput
from calibration import Calibration

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "core/python"))
import adamas.library as adamas

BAD_INPUT = 1  # of adm_status; what else is not 0 is the machine's fault or a bug


class Field(ctypes.Structure):
    _fields_ = [("name", c_char_p), ("value", c_char_p)]


class ShardOf(ctypes.Structure):
    _fields_ = [("shard", c_char_p), ("grid", c_char_p), ("inputs", c_char_p), ("program", c_char_p),
                ("part", POINTER(c_uint32)), ("n_parts", c_size_t)]


FIELDS, BUFFER = [POINTER(Field), c_size_t], [c_char_p, c_size_t]
STORE = {
    "open": ([c_char_p, POINTER(c_void_p), *BUFFER], c_int),
    "begin_run": ([c_void_p, *FIELDS, POINTER(c_int64), *BUFFER], c_int),
    "add_trace": ([c_void_p, *FIELDS, POINTER(c_int64), *BUFFER], c_int),
    "add_config": ([c_void_p, *FIELDS, POINTER(c_int64), *BUFFER], c_int),
    "add_measurement": ([c_void_p, c_int64, c_int64, *FIELDS, POINTER(c_double), c_size_t, c_int, *BUFFER], c_int),
    "begin_shard": ([c_void_p, POINTER(ShardOf), *FIELDS, POINTER(c_int64), POINTER(c_int), *BUFFER], c_int),
    "values": ([c_void_p, c_int64, c_int64, c_char_p, c_char_p, POINTER(c_double), c_size_t, POINTER(c_size_t), *BUFFER],
               c_int),
    "end_shard": ([c_void_p, POINTER(ShardOf), c_int64, c_char_p, c_char_p, *BUFFER], c_int),
    "flush": ([c_void_p, *BUFFER], c_int),
    "end_run": ([c_void_p, c_int64, c_char_p, c_char_p, *BUFFER], c_int),
    "close": ([c_void_p], None),
}
SHARDS = {"split": ([POINTER(c_double), POINTER(c_uint64), c_size_t, POINTER(c_double), c_size_t, c_uint32, POINTER(c_uint32),
                     POINTER(c_double), *BUFFER], c_int)}


class Library:
    """The functions by their short names, as attributes of `sparse` and `db`."""

    def __init__(self, path):
        try:
            lib = ctypes.CDLL(str(path))
            self.sparse, self.db = adamas.bind(lib, "adm_sparse_", adamas.SPARSE), adamas.bind(lib, "adm_db_", STORE)
            self.shards = adamas.bind(lib, "adm_shards_", SHARDS)
        except (OSError, AttributeError) as e:
            raise BadInput(f"{path}: not the host library of this version: {e}; `ninja` builds it") from e

    def looks_back(self, policy):
        """Whether the policy needs the attention that the prompt's tokens drew."""
        return bool(self.sparse.looks_back(policy.encode()))

    def split(self, costs, groups, group_costs, n_shards):
        """The shard of each item, from 1, and what each shard takes (core/fleet/fleet_api.h)."""
        part, load, n = (c_uint32 * len(costs))(), (c_double * n_shards)(), len(costs)
        error = ctypes.create_string_buffer(768)
        if self.shards.split((c_double * n)(*costs), (c_uint64 * n)(*groups), n, (c_double * len(group_costs))(*group_costs),
                             len(group_costs), n_shards, part, load, error, len(error)):
            raise BadInput(error.value.decode())
        return list(part), list(load)

    def open(self, *arguments):
        return Sparse(self.sparse, *arguments)

    def variant(self, policy, n_q_heads, n_kv_heads, d, seed):
        """What the database calls the variant; BadInput if the library does not know the policy."""
        if isinstance(policy, Calibration):
            for one in policy.policies():
                self.variant(one, n_q_heads, n_kv_heads, d, seed)
            return policy.variant
        sparse = self.open(policy, n_q_heads, np.zeros((n_kv_heads, 1, d), np.float32), 1, 0, seed)
        name = sparse.variant()
        sparse.close()
        return name


def address(array):
    """Of a contiguous NumPy array or torch tensor; None of None."""
    if array is None:
        return None
    if isinstance(array, np.ndarray):
        assert array.flags.c_contiguous
        return array.ctypes.data
    assert array.is_contiguous()
    return array.data_ptr()


class Sparse(adamas.Sparse):
    """One layer's prompt under one policy, on arrays; k [n_kv_heads, capacity, d] of which n_prompt tokens are the prompt."""

    def __init__(self, functions, policy, n_q_heads, k, n_prompt, max_steps, seed):
        self.policy = policy
        super().__init__(policy, n_q_heads, k.shape[0], k.shape[2], address(k), n_prompt, k.shape[1], max_steps, seed,
                         functions)

    def _call(self, name, *arguments):
        try:
            super()._call(name, *arguments)
        except ValueError as e:
            raise BadInput(str(e)) from None

    def attend(self, budget, scale, q, k, v, out, drawn=None):
        """q [n_steps, n_q_heads, d]; the steps' keys and values are in k and v. Writes out, which is like q, and returns it."""
        super().attend(budget, scale, address(q), address(k), address(v), k.shape[1], len(q), address(out),
                       drawn=address(drawn))
        return out


class Store:
    """The database, open for writing. BadInput where the file or a value is wrong, else RuntimeError."""

    def __init__(self, library, path):
        self._functions, self._handle = library.db, c_void_p()
        self._call("open", str(path).encode(), byref(self._handle))

    def _call(self, name, *arguments):
        error = ctypes.create_string_buffer(768)
        code = getattr(self._functions, name)(*arguments, error, len(error))
        if code:
            raise (BadInput if code == BAD_INPUT else RuntimeError)(error.value.decode())

    @staticmethod
    def _fields(row):
        fields = [(name.encode(), None if value is None else str(value).encode()) for name, value in row.items()]
        return (Field * len(fields))(*fields), len(fields)

    def _add(self, what, row):
        row_id = c_int64()
        self._call(what, self._handle, *self._fields(row), byref(row_id))
        return row_id.value

    def begin_run(self, row):
        return self._add("begin_run", row)

    def add_trace(self, row):
        return self._add("add_trace", row)

    def add_config(self, row):
        return self._add("add_config", row)

    def begin_shard(self, of, row):
        """The id of a run, and whether it goes on: `of` is Sweep.identity()."""
        texts, part = (of[name].encode() for name in ("shard", "grid", "inputs", "program")), of["part"]
        self._shard = ShardOf(*texts, (c_uint32 * len(part))(*part), len(part))
        run_id, is_resumed = c_int64(), c_int()
        self._call("begin_shard", self._handle, byref(self._shard), *self._fields(row), byref(run_id), byref(is_resumed))
        return run_id.value, bool(is_resumed.value)

    def end_shard(self, run_id, status, reason=None):
        self._call("end_shard", self._handle, byref(self._shard), run_id, status.encode(),
                   None if reason is None else reason.encode())

    def values(self, run_id, config_id, metric):
        """A measurement's samples, empty where there are none."""
        n, values = c_size_t(), np.zeros(0)
        for _ in range(2):  # first how many
            self._call("values", self._handle, run_id, config_id, b"host", metric.encode(),
                       values.ctypes.data_as(POINTER(c_double)), values.size, byref(n))
            if n.value == values.size:
                break
            values = np.zeros(n.value)
        return values

    def add_measurement(self, run_id, config_id, row, values, keep=False):
        values = np.ascontiguousarray(np.atleast_1d(values), np.float64)
        self._call("add_measurement", self._handle, run_id, config_id, *self._fields(row),
                   values.ctypes.data_as(POINTER(c_double)), values.size, keep)

    def flush(self):
        self._call("flush", self._handle)

    def end_run(self, run_id, status, reason=None):
        self._call("end_run", self._handle, run_id, status.encode(), None if reason is None else reason.encode())

    def close(self):
        self._functions.close(byref(self._handle))
