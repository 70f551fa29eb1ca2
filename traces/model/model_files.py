"""Opens a model, whatever its format, and names it to transformers."""
import hashlib
import os
from pathlib import Path

from bad_input import BadInput
from gguf_reader import read_gguf
from hf_reader import read_folder


def load_model(path):
    """The Model at path, a GGUF file or a Hugging Face folder; its weights are read when they are used."""
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: no such GGUF file or model folder")
    try:
        return read_folder(path) if path.is_dir() else read_gguf(path)
    except (ArithmeticError, IndexError, LookupError, TypeError, ValueError) as e:  # sizes of 0, text for numbers
        raise BadInput(f"{path}: its fields do not describe a model: {type(e).__name__}: {e}") from e


def weights_sha256(files):
    """SHA-256 of the files' bytes, one file after the other."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def quiet_transformers():
    """Import transformers so that it neither talks nor asks the network."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    import transformers
    transformers.utils.logging.set_verbosity_error()
    return transformers


def pretrained_args(path):
    """The arguments of from_pretrained() for a GGUF file or a folder."""
    return ({"pretrained_model_name_or_path": path} if path.is_dir()
            else {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name})
