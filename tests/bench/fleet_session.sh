#!/usr/bin/env bash
# fleet_session.sh KIT OUT: what wants several GPUs of one host, in one call of a few minutes:
#
#   ranks     a step and dense attention shared by 1, 2, 4, ... GPUs by KV heads, with the all-reduce, by l1 and asym4
#   gpus      `profile --gpus all --alone`: figures of each GPU, their spread, what running together costs
#   split     the same grid shared by all GPUs as one run, for the scaling
#   balance   the recorded grid (analysis/recorded/h200.json) in 16 shards, as many at once as there are GPUs
#
#   ./configure.py --arch sm_90 && ninja gpu-kit          # where there are compilers
#   tests/bench/fleet_session.sh build/gpu-kit OUT        # there; OUT/session.log has every table, OUT/fleet.db every run
#   adamas db export --run RUNS --label h200-x2 --db OUT/fleet.db -o analysis/recorded/gpus/h200-x2.json
#
# SHRINK=64 makes all lengths shorter. NCCL comes from the system, from ADAMAS_NCCL, or from PyTorch's wheels. NVLink multicast
# stays off. Seconds of each part are printed last; exit status 1 if a part failed.
set -uo pipefail
kit=$(cd "${1:?usage: fleet_session.sh KIT OUT}" && pwd) || exit 2
mkdir -p "${2:?usage: fleet_session.sh KIT OUT}" && out=$(cd "$2" && pwd) || exit 2
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
n=$(nvidia-smi -L 2>/dev/null | wc -l)
log=$out/session.log
verdicts=()
failed=0
: >"$log"

if [ -z "${ADAMAS_NCCL:-}" ] && ! ldconfig -p 2>/dev/null | grep -q libnccl.so.2; then
  found=$(python3 -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0] + "/lib/libnccl.so.2")' 2>/dev/null)
  [ -n "$found" ] && export ADAMAS_NCCL=$found
fi

step() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$out/step.log" 2>&1 || status=$?
  { printf '\n=== %s (%d s, exit %d)\n$ %s\n' "$name" $((SECONDS - start)) $status "$*"; cat "$out/step.log"; } >>"$log"
  verdicts+=("$(printf '%-8s exit %d in %d s' "$name" $status $((SECONDS - start)))")
  [ $status = 0 ] || failed=1
}

ranks=1
for ((r = 2; r <= n && r <= 8; r *= 2)); do ranks+=,$r; done
metrics=${METRICS:-l1,asym4}
shorter() { # lengths, divided by SHRINK: for a look at the script itself
  local words=()
  for t in "$@"; do words+=("$((t / ${SHRINK:-1}))"); done
  (IFS=,; echo "${words[*]}")
}
step link 20 nvidia-smi topo -m
step ranks32 "${RANKS_S:-110}" "$kit/adamas" profile --ranks "$ranks" --metric "$metrics" \
  --seq-lens "$(shorter 32768 131072)" --batch 1,8 --budgets 256,1024 --heads 32 --kv-heads 8,32 --cap-ms 60 \
  --label "ranks of $n" --db "$out/ranks.db"
step ranks64 "${RANKS_S:-110}" "$kit/adamas" profile --ranks "$ranks" --metric "$metrics" \
  --seq-lens "$(shorter 32768 131072)" --batch 1,8 --budgets 256,1024 --heads 64 --kv-heads 8 --cap-ms 60 \
  --label "ranks of $n" --db "$out/ranks.db"
grid=(--seq-lens "$(shorter 8192 32768 131072)" --budgets 256,1024 --heads 32 --kv-heads 8,32 --cap-ms 60)
step gpus 120 "$kit/adamas" profile --gpus all --alone "${grid[@]}" --label "gpus of $n" --db "$out/gpus.db"
step split 60 "$kit/adamas" profile --gpus all --split "${grid[@]}" --label "split over $n" --db "$out/split.db"

# One shard after the other on each GPU, all GPUs at once: each shard's own time is in the joined run.
shards() {
  local g i
  mkdir -p "$out/shards"
  for ((g = 0; g < n; g++)); do
    (for ((i = g + 1; i <= 16; i += n)); do
      CUDA_VISIBLE_DEVICES=$g "$kit/adamas" profile --seq-lens "$(shorter 8192 16384 32768 131072)" \
        --budgets 64,128,256,512,1024,2048,4096 --kv-heads 8,32 --batch 1,8 --cap-ms "${BALANCE_CAP_MS:-100}" \
        --shard "$i/16" --label balance --db "$out/shards/$i.db" --quiet || exit 1
    done) &
  done
  wait
  "$kit/adamas" db merge "$out/shards" --db "$out/balance.db"
  python3 - "$out/balance.db" <<'END'
import sqlite3, sys
seconds = [row[0] for row in sqlite3.connect(sys.argv[1]).execute("SELECT elapsed_ns * 1e-9 FROM shard ORDER BY shard")]
print(f"balance: {len(seconds)} shards, {' '.join(f'{s:.2f}' for s in seconds)} s; "
      f"the slowest takes {max(seconds) * len(seconds) / sum(seconds):.3f} times the mean")
END
}
export -f shards shorter
export kit out n
step balance 120 bash -c shards
step one-db 20 "$kit/adamas" db merge "$out/gpus.db" "$out/ranks.db" "$out/split.db" "$out/balance.db" --db "$out/fleet.db"
[ -s "$out/fleet.db" ] && rm -rf "$out/shards" "$out"/{gpus,ranks,split,balance}.db
rm -f "$out/step.log"
printf '%s\n' "${verdicts[@]}" | tee -a "$log"
exit $failed
