"""Texts and their tokens: UTF-8, without a byte order mark, by the tokeniser that comes with the model."""
from pathlib import Path

import numpy as np

from bad_input import BadInput, refuse_lfs_pointer
from model_files import pretrained_args, quiet_transformers


def read_text(path):
    try:
        refuse_lfs_pointer(path)
        return Path(path).read_text(encoding="utf-8-sig")  # editors on Windows write the mark
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"{path}: not a readable UTF-8 text: {e}") from e


def load_tokeniser(m):
    """The tokeniser of a Model, as transformers loads it."""
    try:
        return quiet_transformers().AutoTokenizer.from_pretrained(**pretrained_args(m.path))
    except (OSError, ValueError, NotImplementedError, KeyError, AttributeError) as e:
        raise BadInput(f"{m.path}: transformers cannot load its tokeniser: {type(e).__name__}: {e}") from e


def read_tokens(m, path, n_tokens):
    """The first n_tokens of a text as int64."""
    return take_tokens(m, path, load_tokeniser(m)(read_text(path)).input_ids, n_tokens)


def take_tokens(m, path, ids, n_tokens):
    if len(ids) < n_tokens:
        raise BadInput(f"{path}: has {len(ids)} tokens, and {n_tokens} are needed")
    vocabulary = m.weights.shapes["token_embd.weight"][0]
    if max(ids[:n_tokens]) >= vocabulary:
        raise BadInput(f"{m.path}: its tokeniser gives the token {max(ids[:n_tokens])}, but it has {vocabulary} embeddings")
    return np.array(ids[:n_tokens], np.int64)
