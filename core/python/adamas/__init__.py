"""Adamas Lab in Python: databases as frames, selection policies on your own tensors, traces from your own model, and models
that decode with its attention.

    import adamas
    db = adamas.open("adamas.db")
    db.quality(metric="output_rel_l2").to_pandas()

    adamas.select(q, k, policy="adamas:metric=asym4", budget=64)

    with adamas.capture(model, "mine.safetensors"):
        model.generate(prompt, max_new_tokens=64)

    with adamas.attend(model, budget=256):
        model.generate(prompt, max_new_tokens=64, past_key_values=StaticCache(config=model.config, max_cache_len=4096))
"""
from .attending import attend
from .capturing import capture
from .database import Database, open
from .selection import select
from .table import Table

__all__ = ["Database", "Table", "attend", "capture", "open", "select"]
