#!/usr/bin/env bash
# gpu_session.sh: everything that wants a GPU, in one go, in the order in which a failure should stop belief in the rest:
# correctness, the memory and race checkers on a small part, then times, then the grid of the recorded profile.
#
#   ./configure.py --arch sm_90 && ninja gpu-kit     # here: programs for a GPU machine without compilers or packages
#   tests/gpu_session.sh build/gpu-kit OUT [quick]   # there: logs and profile.db go to the folder OUT
#
# `quick` leaves out the checkers and the large grid. Ends with the small table and a line a part. Exit status 1 if any
# part failed, 77 without a GPU.
set -uo pipefail
kit=$(cd "${1:?usage: gpu_session.sh KIT OUT [quick]}" && pwd) || exit 2
mkdir -p "${2:?usage: gpu_session.sh KIT OUT [quick]}" && out=$(cd "$2" && pwd) || exit 2
quick=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
failed=0
verdicts=()

# part NAME SECONDS COMMAND...: runs with a time limit, keeps the output, remembers the verdict.
part() {
  local name=$1 limit=$2 start=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
  verdicts+=("$(printf '%-24s %s in %d s' "$name" "$([ $status = 0 ] && echo ok || echo "FAILED ($status), see $name.log")" $((SECONDS - start)))")
  [ $status = 0 ] || { failed=1; tail -n 15 "$out/$name.log"; }
}

# Without a GPU the tests below would all skip, and look well.
timeout 60 "$kit/adamas" profile --check-only --seq-lens 256 --budgets 16 --kv-heads 8 --quiet --db "$out/first.db"
[ $? != 77 ] || exit 77

part doctor 30 "$kit/adamas" doctor
part stages 150 "$kit/test_gpu"
part attention 150 "$kit/test_gpu_attention"
part small-grid 120 "$kit/adamas" profile --seq-lens 32768,131072 --budgets 256,1024 --kv-heads 32,8 --db "$out/small.db"
if [ "$quick" != quick ]; then
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck initcheck; do
      part "$tool-stages" 60 env ADAMAS_TEST_FILTER=edges compute-sanitizer --error-exitcode 1 --tool $tool "$kit/test_gpu"
      part "$tool-profile" 60 compute-sanitizer --error-exitcode 1 --tool $tool "$kit/adamas" profile --check-only \
        --seq-lens 1000 --budgets 64 --kv-heads 8 --db "$out/checked.db"
    done
  fi
  part grid 240 "$kit/adamas" profile --seq-lens 8192,16384,32768,131072 --budgets 64,128,256,512,1024,2048,4096 \
    --kv-heads 8,32 --batch 1,8 --cap-ms 100 --label recorded --db "$out/profile.db" --quiet
  part sdpa 90 python3 "$here/bench_sdpa.py" --seq-lens 8192,32768,131072
  cat "$out/sdpa.log"
fi
cat "$out/small-grid.log"
printf '%s\n' "${verdicts[@]}"
exit $failed
