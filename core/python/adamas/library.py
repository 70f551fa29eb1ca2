"""libadamas.so through ctypes (core/contract/adamas.h): one layer's attention under a selection policy."""
from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import byref, c_char_p, c_double, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any


class Shape(ctypes.Structure):
    _fields_ = [(name, c_uint32) for name in ("n_q_heads", "n_kv_heads", "head_dim")]


class Error(ctypes.Structure):
    _fields_ = [("status", c_int), ("text", ctypes.c_char * 768)]


SPARSE = {  # adm_sparse_NAME: the arguments, and what it returns
    "open": ([c_char_p, c_void_p, c_void_p, c_size_t, c_size_t, c_size_t, c_uint64, c_void_p, c_void_p], c_int),
    "attend": ([c_void_p, c_uint32, c_double, c_void_p, c_void_p, c_void_p, c_size_t, c_size_t, *[c_void_p] * 4], c_int),
    "close": ([c_void_p], None),
    "variant": ([c_void_p, c_char_p], None),
    "looks_back": ([c_char_p], c_int),
}


def bind(library: ctypes.CDLL, prefix: str, signatures: dict[str, Any]) -> Any:
    """The functions by their short names, as attributes. AttributeError where the library has one of them not."""
    functions = {name: getattr(library, prefix + name) for name in signatures}
    for name, (arguments, result) in signatures.items():
        functions[name].argtypes, functions[name].restype = arguments, result
    return type("Functions", (), {name: staticmethod(function) for name, function in functions.items()})


def paths() -> list[str]:
    """Where the library is looked for: ADAMAS_LIBRARY, beside this file, a checkout's build, where programs find theirs."""
    here = Path(__file__).resolve().parent
    checkout = here.parents[2] / "build/release/libadamas.so"
    named = os.environ.get("ADAMAS_LIBRARY")
    return [named] if named else [*(str(path) for path in (here / "libadamas.so", checkout) if path.is_file()), "libadamas.so"]


def open_library(take: Callable[[ctypes.CDLL], Any]) -> Any:
    """What take() makes of the first library that has it all. Raises ImportError where there is none of this version."""
    failures = []
    for path in paths():
        try:
            return take(ctypes.CDLL(path))
        except (OSError, AttributeError) as e:
            failures.append(f"{path}: {e}")
    raise ImportError("libadamas.so was not found; `ninja` in a checkout builds it, `ninja install` installs it, and "
                      "ADAMAS_LIBRARY may name it: " + "; ".join(failures))


@cache
def load() -> Any:
    """The functions adm_sparse_* by their short names."""
    return open_library(lambda library: bind(library, "adm_sparse_", SPARSE))


class Sparse:
    """One layer's prompt under one policy. Pointers are to float32 in host memory, and stay the caller's.

    k [n_kv_heads][capacity][d], of whose tokens the first n_prompt are the prompt. Raises ValueError, as the library says it.
    """

    def __init__(self, policy: str, n_q_heads: int, n_kv_heads: int, head_dim: int, k: int, n_prompt: int, capacity: int,
                 max_steps: int, seed: int = 1, functions: Any = None):
        self._functions, self._handle = functions or load(), c_void_p()
        shape = Shape(n_q_heads, n_kv_heads, head_dim)
        self._call("open", policy.encode(), ctypes.addressof(shape), k, n_prompt, capacity, max_steps, seed,
                   ctypes.addressof(self._handle))

    def _call(self, name: str, *arguments: Any) -> None:
        error = Error()
        if getattr(self._functions, name)(*arguments, byref(error)):
            raise ValueError(error.text.decode())

    def attend(self, budget: int, scale: float, q: int, k: int, v: int, capacity: int, n_steps: int, out: int,
               index: int | None = None, drawn: int | None = None) -> None:
        """q and out [n_steps][n_q_heads][d]; index [n_steps][n_q_heads][budget] uint32 or None."""
        self._call("attend", self._handle, budget, scale, q, k, v, capacity, n_steps, drawn, out, index)

    def variant(self) -> str:
        """The variant as a replay names it in the database."""
        name = ctypes.create_string_buffer(176)  # ADM_SPARSE_NAME_BYTES
        self._functions.variant(self._handle, name)
        return name.value.decode()

    def close(self) -> None:
        self._functions.close(byref(self._handle))

    def __enter__(self) -> Sparse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
