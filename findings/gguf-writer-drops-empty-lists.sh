#!/usr/bin/env bash
# gguf.GGUFWriter leaves an empty list out of the file without a word.
#
# Expected: a field with no values, which the format allows
# Seen:     the file has no such field
# Exit: 0 as described, 1 changed, 77 no network or no pip. PYTHON=... uses a Python that has the packages.
set -euo pipefail
sed -n 's/^# \(Expected\)/\1/p' "$0"
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
if [ -z "${PYTHON:-}" ]; then
    python3 -m venv "$folder/venv" && PYTHON=$folder/venv/bin/python
    "$PYTHON" -m pip install -q gguf==0.19.0 numpy==2.4.6 || exit 77
fi
cd "$folder" && HF_HUB_OFFLINE=1 "$PYTHON" - <<'END'
import gguf

w = gguf.GGUFWriter("m.gguf", "llama")
w.add_token_list(["a", "b"]), w.add_token_merges([])
w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
reader = gguf.GGUFReader("m.gguf")
there = reader.get_field("tokenizer.ggml.merges") is not None
print("gguf 0.19.0: tokenizer.ggml.tokens", reader.get_field("tokenizer.ggml.tokens").contents(), "  merges there:", there)
raise SystemExit(1 if there else 0)
END
