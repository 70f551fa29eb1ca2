#!/bin/bash
# tests/bench/cupti_session.sh PROGRAMS OUT [LIBCUPTI...]: what CUPTI releases do beside a driver, and what a timeline costs.
#
# PROGRAMS is build/gpu-kit (`ninja gpu-kit`); each LIBCUPTI is a libcupti.so.13 with its libnvperf_* beside it, for instance
# those that `ninja cupti-matrix` puts into build/deps/cupti*/nvidia/cu13/lib. Without any, the one that the program finds.
# Needs a GPU and the right to count. For each: doctor's line, a plan, the counters of one configuration, timelines with
# hardware timestamps where they can be had and without, and what the profile recorded of CUPTI. OUT/summary.txt has all of it.
set -u
programs=$(realpath "$1") out=$2
shift 2
mkdir -p "$out"
out=$(realpath "$out")
cd "$out" || exit 1
[ $# -gt 0 ] || set -- ""

facts() {
    python3 - "$1" << 'END'
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for row in db.execute("SELECT name, median, m.status, ifnull(m.reason, '') FROM measurement m JOIN metric USING (metric_id) "
                      "JOIN config USING (config_id) WHERE variant = 'cupti' ORDER BY run_id, name"):
    print("  ", *row)
for row in db.execute("SELECT DISTINCT status, reason FROM stage_summary WHERE metric IN ('dram__bytes_read.sum', "
                      "'kernel_time_ns')"):
    print("   counts and timelines:", *row)
END
}

for library in "$@"; do
    echo "== ${library:-the CUPTI that is found}"
    [ -z "$library" ] || export ADAMAS_CUPTI=$library
    rm -f one.db
    "$programs/adamas" doctor | grep -A1 'CUPTI  '
    "$programs/adamas" counters plan --set full | head -1
    for options in "--counters full" "--timeline" "--timeline --timestamps software"; do
        "$programs/adamas" profile --seq-lens 32768 --budgets 256 --cap-ms 50 --launch graph,stream \
            $options --db one.db > "log.txt" 2>&1
        echo "profile $options: exit $?"
        grep -E '^(counted|traced|not counted|not traced)' log.txt
    done
    facts one.db
    "$programs/bench_probes" 2>&1 | grep -iE 'timeline|counters'
done 2>&1 | tee summary.txt
