#!/usr/bin/env bash
# fleet_session.sh KIT OUT [PART...]: what wants several GPUs of one host, in one call of a few minutes:
#
#   ranks     a step and dense attention shared by 1, 2, 4, ... GPUs by KV heads, with the all-reduce, by l1 and asym4
#   gpus      `profile --gpus all --alone`: figures of each GPU, their spread, what running together costs
#   split     a grid on one GPU, and shared by all as one run: three times in turns, and the median of the scaling
#   balance   the recorded grid (analysis/recorded/h200.json) in 16 shards, as many at once as there are GPUs: what each took,
#             and what it was estimated to take (seconds/N.tsv, bench_balance.py)
#
#   ./configure.py --arch sm_90 && ninja gpu-kit          # where there are compilers
#   tests/bench/fleet_session.sh build/gpu-kit OUT        # there; OUT/session.log has every table, OUT/fleet.db every run
#   adamas db export --run RUNS --label h200-x2 --db OUT/fleet.db -o analysis/recorded/gpus/h200-x2.json
#
# SHRINK=64 makes all lengths shorter. NCCL comes from the system, from ADAMAS_NCCL, or from PyTorch's wheels. NVLink multicast
# stays off. Seconds of each part are printed last; exit status 1 if a part failed.
set -uo pipefail
usage="usage: fleet_session.sh KIT OUT [PART...]"
kit=$(cd "${1:?$usage}" && pwd) || exit 2
mkdir -p "${2:?$usage}" && out=$(cd "$2" && pwd) || exit 2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
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
grid=(--seq-lens "$(shorter 8192 32768 131072)" --budgets 256,1024 --heads 32 --kv-heads 8,32 --cap-ms 60)

part_ranks() {
  step ranks32 "${RANKS_S:-110}" "$kit/adamas" profile --ranks "$ranks" --metric "$metrics" \
    --seq-lens "$(shorter 32768 131072)" --batch 1,8 --budgets 256,1024 --heads 32 --kv-heads 8,32 --cap-ms 60 \
    --label "ranks of $n" --db "$out/ranks.db"
  step ranks64 "${RANKS_S:-110}" "$kit/adamas" profile --ranks "$ranks" --metric "$metrics" \
    --seq-lens "$(shorter 32768 131072)" --batch 1,8 --budgets 256,1024 --heads 64 --kv-heads 8 --cap-ms 60 \
    --label "ranks of $n" --db "$out/ranks.db"
}

part_gpus() { step gpus 120 "$kit/adamas" profile --gpus all --alone "${grid[@]}" --label "gpus of $n" --db "$out/gpus.db"; }

# Wall seconds of whole commands, in turns. The database keeps the last of the three.
split() {
  local round start
  for round in 1 2 3; do
    for which in 0 all; do
      rm -f "$out/split.db"
      start=$(date +%s%N)
      "$kit/adamas" profile --gpus $which $([ $which = all ] && echo --split) "$@" --db "$out/split.db" --quiet || exit 1
      echo "$which $(($(date +%s%N) - start))"
    done
  done | tee "$out/split.txt"
  python3 - "$out/split.txt" "$n" <<'END'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
one, all_ = ([int(ns) * 1e-9 for name, ns in rows if name == which] for which in ("0", "all"))
scaling = sorted(a / b for a, b in zip(one, all_))
print(f"split: one GPU {statistics.median(one):.2f} s, {sys.argv[2]} GPUs {statistics.median(all_):.2f} s: "
      f"{statistics.median(scaling):.2f} times as fast ({scaling[0]:.2f} to {scaling[-1]:.2f}; n = {len(scaling)})")
END
}
part_split() { step split 150 bash -c 'split "$@"' split "${grid[@]}" --batch 1,8 --label "split over $n"; }

# One shard after the other on each GPU, all GPUs at once: each shard's own time is in the joined run.
shards() {
  local g i
  mkdir -p "$out/shards" "$out/seconds"
  for ((g = 0; g < n; g++)); do
    (for ((i = g + 1; i <= 16; i += n)); do
      CUDA_VISIBLE_DEVICES=$g "$kit/adamas" profile --seq-lens "$(shorter 8192 16384 32768 131072)" \
        --budgets 64,128,256,512,1024,2048,4096 --kv-heads 8,32 --batch 1,8 --cap-ms "${BALANCE_CAP_MS:-100}" \
        --shard "$i/16" --label balance --db "$out/shards/$i.db" --seconds "$out/seconds/$i.tsv" --quiet || exit 1
    done) &
  done
  wait
  "$kit/adamas" db merge "$out/shards" --db "$out/balance.db"
  python3 "$here/bench_balance.py" --db "$out/balance.db" "$out"/seconds/*.tsv
}
part_balance() { step balance 150 bash -c shards; }

export -f shards shorter split
export kit out n here
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(ranks gpus split balance)
for part in "${parts[@]}"; do
  declare -F "part_$part" >/dev/null || { echo "fleet_session.sh: '$part' is no part; $usage" >&2; exit 2; }
done
step link 20 nvidia-smi topo -m
for part in "${parts[@]}"; do "part_$part"; done
kept=()
for part in gpus ranks split balance; do [ -s "$out/$part.db" ] && kept+=("$out/$part.db"); done
step one-db 20 "$kit/adamas" db merge "${kept[@]}" --db "$out/fleet.db"
[ -s "$out/fleet.db" ] && rm -rf "$out/shards" "$out"/{gpus,ranks,split,balance}.db
rm -f "$out/step.log"
printf '%s\n' "${verdicts[@]}" | tee -a "$log"
exit $failed
