#!/usr/bin/env bash
# gpu_session.sh: everything that wants a GPU, in the order in which a failure should stop belief in the rest:
# correctness first, then the memory and race checkers on a small part, then times.
#
#   ./configure.py --arch sm_90 && ninja gpu-kit   # here: programs for a GPU machine without compilers or packages
#   tests/bench/gpu_session.sh build/gpu-kit OUT         # there: OUT/session.log, and databases beside it
#
# Parts can be named behind OUT, and run in the order given; the default ones take about 13 minutes on an H200:
#
#   doctor        what the machine has
#   stages        every implementation against the host, byte for byte        (test_gpu)
#   attention     the attention kernels by themselves                         (test_gpu_attention)
#   checks        what `profile` checks and does not time: types, head dimensions, groups, pages, ragged batches,
#                 a million tokens; and times on the bundled trace               trace.db
#   small-grid    times at 32K and 128K                                       small.db
#   sanitizer     compute-sanitizer's memcheck, racecheck and initcheck, at most 140 s
#   races         racecheck over the grouped step's tests, case by case, about 10 minutes (several at a time take as
#                 long); not run by default
#   grid          the grid of the recorded profile, about a minute            profile.db
#   probes        what probes cost; counters and timelines over three lengths and budgets     observed.db
#                 our counters beside Nsight Compute's for the same kernels
#   planted       `adamas check` finds a slowdown planted in one kernel, and none where there is none, ten processes a
#                 side: planted.xml, same.xml, Markdown and databases beside them
#   sdpa          dense attention beside PyTorch's cuDNN backend, the shapes of bench_sdpa.py     sdpa.db, dense-peers.tsv
#
# Exit status 1 if anything failed, 77 without a GPU.
set -uo pipefail
usage="usage: gpu_session.sh KIT OUT [PART...]"
kit=$(cd "${1:?$usage}" && pwd) || exit 2
mkdir -p "${2:?$usage}" && out=$(cd "$2" && pwd) || exit 2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
log=$out/session.log
verdicts=()
failed=0

# step NAME SECONDS COMMAND...: runs with a time limit, logs the output, remembers the verdict. `expect="1 3" step ...`: these
# exit statuses are right, and others wrong.
step() {
  local name=$1 limit=$2 start=$SECONDS status=0 verdict=ok
  shift 2
  timeout "$limit" "$@" >"$scratch/step.log" 2>&1 || status=$?
  case " ${expect:-0} " in
    *" $status "*) status=0 ;;
    *) [ $status != 0 ] || status=unexpected ;;
  esac
  [ $status = 0 ] || verdict="FAILED ($status)"
  [ $status != 77 ] || verdict="skipped"
  [ $status != 124 ] || verdict="FAILED: over $limit s"
  { printf '\n=== %s\n$ %s\n' "$name" "$*"; cat "$scratch/step.log"; } >>"$log"
  verdicts+=("$(printf '%-36s %s in %d s' "$name" "$verdict" $((SECONDS - start)))")
  [ $status = 0 ] || [ $status = 77 ] || { failed=1; echo "--- $name"; tail -n 15 "$scratch/step.log"; }
}

# check NAME OPTIONS...: a configuration that `profile` compares with the host and does not time.
check() {
  local name=$1
  shift
  step "check $name" 60 "$kit/adamas" profile --check-only --db "$scratch/checks.db" "$@"
}

part_doctor() { step doctor 30 "$kit/adamas" doctor; }
part_stages() { step stages 150 "$kit/test_gpu"; }
part_attention() { step attention 150 "$kit/test_gpu_attention"; }

part_checks() {
  check "f16 d=128" --seq-lens 1,31,1000,8192 --budgets 1,256,1024 --kv-heads 8,32
  check "bf16 d=64" --seq-lens 1000,8192 --budgets 64 --heads 16 --kv-heads 4,16 --head-dim 64 --dtype bf16
  check "f16 d=256" --seq-lens 1000,8192 --budgets 64 --heads 8 --kv-heads 2,8 --head-dim 256 --sinks 4 --recent 16
  check "a million tokens" --seq-lens 1048576 --budgets 1024 --heads 4 --kv-heads 1,4
  check "batch 64" --seq-lens 4096 --budgets 256 --kv-heads 8 --batch 64
  check "ragged batch" --batch-lens 1000,0,32768,1,257,31,32,33 --budgets 64,256 --kv-heads 8
  check "ragged batch, pages of 1" --batch-lens 1000,0,8192,1,257 --budgets 64 --kv-heads 8 --page-size 1
  check "pages of 16, a group selects" --seq-lens 5000 --budgets 256 --kv-heads 8 --batch 4 --page-size 16 --select group
  check "pages of 7, bf16" --seq-lens 777,8192 --budgets 64 --heads 8 --kv-heads 2 --page-size 7 --dtype bf16
  step "real trace" 60 "$kit/adamas" profile --trace "$here/../../traces/smollm2-135m-kjv.safetensors" --budgets 64,256 \
    --label smollm2 --db "$out/trace.db"
}

part_small_grid() {
  step small-grid 150 "$kit/adamas" profile --seq-lens 32768,131072 --budgets 256,1024 --kv-heads 32,8 \
    --label small-grid --db "$out/small.db"
  cat "$scratch/step.log"
}

# sanitize TOOL SECONDS NAME COMMAND...
sanitize() {
  local tool=$1 limit=$2 name=$3
  shift 3
  step "$tool $name" "$limit" env ADAMAS_TEST_FILTER=small_shapes compute-sanitizer --error-exitcode 1 --tool "$tool" "$@"
}

part_sanitizer() {
  command -v compute-sanitizer >/dev/null ||
    { verdicts+=("$(printf '%-36s' sanitizer) skipped: no compute-sanitizer here"); return; }
  local profile=("$kit/adamas" profile --check-only --seq-lens 1000 --budgets 64 --heads 8 --kv-heads 2 --cache warm
                 --quiet --db "$scratch/sanitized.db")
  sanitize memcheck 15 stages "$kit/test_gpu"
  sanitize racecheck 30 stages "$kit/test_gpu"
  sanitize initcheck 15 stages "$kit/test_gpu"
  sanitize memcheck 20 profile "${profile[@]}"
  sanitize racecheck 60 profile "${profile[@]}"
}

part_races() {
  command -v compute-sanitizer >/dev/null ||
    { verdicts+=("$(printf '%-36s' races) skipped: no compute-sanitizer here"); return; }
  local test n case
  for test in grouped_steps_cut_every_way:18 grouped_steps_of_one_selection:44; do
    n=${test#*:} test=${test%:*}
    for ((case = 0; case < n; case++)); do
      step "racecheck $test $case" 60 env ADAMAS_TEST_FILTER="$test" ADAMAS_TEST_CASE="$case" \
        compute-sanitizer --error-exitcode 1 --tool racecheck "$kit/test_gpu"
    done
  done
}

part_grid() {
  step grid 240 "$kit/adamas" profile --seq-lens 8192,16384,32768,131072 --budgets 64,128,256,512,1024,2048,4096 \
    --kv-heads 8,32 --batch 1,8 --cap-ms 100 --label recorded --db "$out/profile.db"
  # There are violations: those that kernels/LOG.md names.
  expect="0 1" step "grid: violations" 20 python3 "$here/bench_steps.py" "$out/profile.db"
  cat "$scratch/step.log"
}

part_probes() {
  step "cost of probes" 60 "$kit/bench_probes"
  cat "$scratch/step.log"
  step "counters and timelines" 90 "$kit/adamas" profile --seq-lens 8192,32768,131072 --budgets 64,256,1024 \
    --launch graph,stream --counters full --timeline --cap-ms 50 \
    --label "recorded:counters and timeline" --db "$out/observed.db"
  step "counters beside ncu" 90 python3 "$here/compare_ncu.py" --adamas "$kit/adamas" --out "$out/compare-ncu"
}

# failed_stages JUNIT: the stages of its failures, a line each.
failed_stages() { grep -o '<testcase[^>]*><failure' "$1" | grep -o 'classname="[^"]*"' | sort -u; }

# compare_programs NAME STATUSES CANDIDATE STAGES: a check of CANDIDATE against the program itself, in fresh processes, ends
# with one of STATUSES, and its JUnit file has failures of STAGES alone.
compare_programs() {
  local name=$1 found
  expect=$2 step "check of $name" 100 "$kit/adamas" check --baseline "$kit/adamas" --candidate "$3" --runs 10 --all \
    --db "$out/$name.db" --junit "$out/$name.xml" --markdown "$out/$name.md" -- \
    profile --stages hadamard,distance,topk,attention --seq-lens 32768 --budgets 256 --cap-ms 50
  found=$(failed_stages "$out/$name.xml")
  step "check of $name: who is blamed" 5 test "$found" = "$4"
  cat "$out/$name.md"
}

part_planted() {
  compare_programs planted 1 "$kit/adamas-planted" 'classname="adamas.gpu.attention"'
  compare_programs same "0 3" "$kit/adamas" ''
}

part_sdpa() {
  local dense=("$kit/adamas" profile --stages dense --db "$out/sdpa.db" --cap-ms 100)
  step "dense for sdpa" 60 "${dense[@]}" --seq-lens 8192,32768,131072 --kv-heads 8,32 --batch 1,8
  for heads in 28/4 16/2 64/8 40/8; do
    step "dense for sdpa, $heads" 20 "${dense[@]}" --seq-lens 8192,32768,131072 --heads "${heads%/*}" --kv-heads "${heads#*/}"
  done
  step "dense for sdpa, 4/1" 20 "${dense[@]}" --seq-lens 8192,32768 --heads 4 --kv-heads 1 --head-dim 256
  step "dense for sdpa, 9/3" 20 "${dense[@]}" --seq-lens 3584,8192,32768 --heads 9 --kv-heads 3 --head-dim 64
  step sdpa 150 python3 "$here/bench_sdpa.py" --backends CUDNN_ATTENTION --ours "$out/sdpa.db" --peers "$out/dense-peers.tsv"
  cat "$scratch/step.log"
}

parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(doctor stages attention checks small-grid sanitizer grid probes planted sdpa)
for part in "${parts[@]}"; do
  declare -F "part_${part//-/_}" >/dev/null || { echo "gpu_session.sh: '$part' is no part; $usage" >&2; exit 2; }
done

# Without a GPU the tests would all skip, and look well.
timeout 60 "$kit/adamas" profile --check-only --seq-lens 256 --budgets 16 --kv-heads 8 --quiet --db "$scratch/first.db"
[ $? != 77 ] || exit 77

for part in "${parts[@]}"; do "part_${part//-/_}"; done
printf '%s\n' "${verdicts[@]}" | tee -a "$log"
exit $failed
