#!/bin/sh
# Runs the libFuzzer targets on many cores, and prints what each did:
#
#   run_fuzz.sh SECONDS CORES OUTDIR [READER...]
#
# Every core takes the readers in turn, each core another first, for an equal share of the SECONDS. A reader that ends early, as
# after a finding, is started again. OUTDIR keeps corpora (corpus/READER; a later run goes on from them), findings
# (READER-crash-*, -timeout-*, -oom-*, -leak-*), the log of each process, and log.tsv: reader, core, executions, seconds,
# features, exit status. Ends with 1 if anything was found. Needs a POSIX shell and coreutils only; programs are beside this
# script or in build/fuzz.
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
seconds=$1 cores=$2
mkdir -p "$3/logs" || exit 4
out=$(cd "$3" && pwd)
shift 3
here=$(cd "$(dirname "$0")" && pwd)
if [ -x "$here/arguments" ]; then top=$here programs=$here
else top=$(cd "$here/../.." && pwd) programs=$top/build/fuzz; fi
seeds=$top/tests/fuzz/corpus
cd "$top" || exit 4 # the database's reader takes its base from tests/fuzz/corpus
readers=${*:-safetensors requests recorded metrics arguments candidate manifest calibration model database}
# shellcheck disable=SC2086 # words
set -- $readers
n=$#
mkdir -p $(for name in $readers; do echo "$out/corpus/$name"; done)
[ -s "$out/log.tsv" ] && had=$(wc -l < "$out/log.tsv") || had=0

# ASan of clang before 18 does not start where a kernel moves maps far, so without that; LSan needs ptrace.
still=
setarch -R true 2> /dev/null && still="setarch -R"
leaks=1
printf '0' > "$out/probe"
$still "$programs/arguments" -runs=1 "$out/probe" > "$out/logs/probe.log" 2>&1 || leaks=0
$still "$programs/arguments" -runs=1 -detect_leaks=$leaks "$out/probe" > "$out/logs/probe.log" 2>&1 || {
    echo "run_fuzz.sh: the programs do not start here: $out/logs/probe.log" >&2; exit 4; }

# one READER CORE SECONDS
one() {
    end=$(($(date +%s) + $3)) try=0
    while left=$((end - $(date +%s))) && [ $left -gt 1 ] && [ $try -lt 20 ]; do
        try=$((try + 1)) log=$out/logs/$1-$2-$try.log start=$(date +%s)
        $still timeout -k 5 $((left + 60)) "$programs/$1" -max_total_time=$left -artifact_prefix="$out/$1-" -max_len=8192 \
            -timeout=25 -rss_limit_mb=2048 -close_fd_mask=1 -detect_leaks=$leaks -print_final_stats=1 -verbosity=1 \
            "$out/corpus/$1" "$seeds/$1" > /dev/null 2> "$log"
        status=$?
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
        features=$(sed -n 's/.*[^a-z]ft: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "${runs:-0}" $(($(date +%s) - start)) "${features:-0}" $status \
        >> "$out/log.tsv"
        [ $status -eq 0 ] && rm -f "$log" || mv "$log" "$log.found"
    done
}

core=0
while [ $core -lt "$cores" ]; do
    (
        turn=0
        while [ $turn -lt $n ]; do
            eval "name=\${$(((core + turn) % n + 1))}"
            one "$name" $core $((seconds * (turn + 1) / n - seconds * turn / n))
            turn=$((turn + 1))
        done
    ) &
    core=$((core + 1))
done
wait

awk -F '\t' -v readers="$readers" -v had="$had" '
    NR > had { runs[$1] += $3; spent[$1] += $4; if ($5 > most[$1]) most[$1] = $5; if ($6 != 0) found[$1]++ }
    END { n = split(readers, name, " ")
          printf "%-12s %14s %10s %12s %10s %9s\n", "reader", "executions", "seconds", "executions/s", "features", "findings"
          for (i = 1; i <= n; i++) { r = name[i]; all += runs[r]; s += spent[r]; f += found[r]
              printf "%-12s %14d %10d %12d %10d %9d\n",
                    r, runs[r], spent[r], runs[r] / (spent[r] ? spent[r] : 1), most[r], found[r] }
          printf "%-12s %14d %10d %12d %10s %9d\n", "all", all, s, all / (s ? s : 1), "", f }' "$out/log.tsv" |
    tee "$out/table.txt"
ls "$out" | grep -E -e '-(crash|timeout|oom|leak)-' > "$out/found.txt"
[ -s "$out/found.txt" ] && { echo "crash files in $out:"; cat "$out/found.txt"; exit 1; }
awk -F '\t' -v had="$had" 'NR > had && $6 != 0 { bad = 1 } END { exit bad }' "$out/log.tsv"
