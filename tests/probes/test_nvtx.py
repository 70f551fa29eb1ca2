"""The NVTX ranges of a replay, as a tool sees them: the program loads tests/support/nvtx_injection.c, which writes every call
to a file, and the tree of ranges in that file is compared with the events that --timeline put into the database. Needs no
GPU.
"""
import json
import os
import struct
from collections import Counter
from dataclasses import dataclass, field

import pytest

from conftest import PROGRAM, query

TOOL = PROGRAM.parent / "tests/nvtx_injection.so"
STAGES = ["hadamard", "bucket", "pack", "append", "distance", "topk", "attention", "step", "dense"]
FORMATS = {"15": "i", "16": "I"}  # payload entry types INT32 and UINT32 of nvToolsExtPayload.h


@dataclass
class Range:
    name: str
    category: str
    parents: tuple  # names, outermost first
    payload: object


@dataclass
class Log:
    """What the tool was told. ranges: in the order in which they ended."""
    domains: list = field(default_factory=list)
    categories: dict = field(default_factory=dict)
    schemas: dict = field(default_factory=dict)
    ranges: list = field(default_factory=list)
    n_destroyed: int = 0
    n_plain: int = 0


def read_log(path):
    log, stack = Log(), []
    for line in path.read_text().splitlines():
        call, domain, *rest = line.split("\t")
        assert domain == str(len(log.domains) + (call == "domain")), f"outside the open domain: {line}"
        if call == "domain":
            log.domains.append(rest[0])
        elif call == "category":
            log.categories[rest[0]] = rest[1]
        elif call == "schema":
            log.schemas[rest[0]] = rest[1:]
        elif call == "push":
            category, kind, name, payload = rest
            log.n_plain += kind != "registered"
            stack.append(Range(name, log.categories[category], tuple(r.name for r in stack), decode(payload, log.schemas)))
        elif call == "pop":
            log.ranges.append(stack.pop())
        elif call == "destroy":
            log.n_destroyed += 1
    assert stack == [], "ranges that never ended"
    return log


def decode(text, schemas):
    """A payload as the schema that was registered for it says: {field: value}; a plain number as it is."""
    if text.startswith("="):
        return int(text[1:])
    schema, data = text.split(":")
    _, size, fields = schemas[schema]
    assert len(data) == 2 * int(size)
    entries = [entry.split(":") for entry in fields.split(",")]
    return {name: struct.unpack_from("<" + FORMATS[kind], bytes.fromhex(data), int(offset))[0]
            for name, kind, offset in entries}


@pytest.fixture
def tool(adamas):
    """Skips where the build has no NVTX; a build that has it and lacks the tool is at fault."""
    finding = next(f for f in json.loads(adamas("doctor", "--json").out) if f["what"] == "NVTX")
    if not finding["ok"]:
        pytest.skip(finding["text"])
    assert TOOL.exists(), f"{TOOL} is not there: build it with ninja"
    return TOOL


@pytest.fixture
def replay(adamas, tool, small_run, tmp_path):
    """replay(...) -> (log, database) of a replay of the small trace under the tool."""
    def run(*arguments, **more):
        result = adamas("replay", small_run[0], "--db", "ranges.db", "--quiet", "--budgets", "16,64", *arguments,
                        env={**os.environ, "NVTX_INJECTION64_PATH": str(tool), "ADAMAS_NVTX_LOG": "log.txt", **more})
        assert (result.code, result.out, result.err) == (0, "", "")
        return read_log(tmp_path / "log.txt"), tmp_path / "ranges.db"
    return run


def test_ranges_are_the_events_of_the_timeline(replay):
    log, database = replay("--timeline")
    events = query(database, "SELECT kind, name, ifnull(step, -1), ifnull(layer, -1), ifnull(budget, 0), start_ns, end_ns "
                             "FROM event LEFT JOIN config USING (config_id) ORDER BY event_id")
    assert len(events) > 300 and {kind for kind, *_ in events} == {"session", "step", "layer", "stage"}
    # Ranges end in the order in which the events were kept, so the two lists go side by side.
    assert len(log.ranges) == len(events)
    for seen, (kind, name, step, layer, budget, *_) in zip(log.ranges, events):
        category = {"stage": name, "step": "decode step"}.get(kind, kind)
        assert (seen.name, seen.category) == (name, category)
        assert (seen.payload["step"], seen.payload["layer"]) == (step, layer)
        if kind == "stage" and seen.payload["step"] >= 0:  # the events of a second threshold have no configuration
            assert seen.payload["budget"] == budget or budget == 0
            assert (seen.payload["budget"] > 0) == (name in ("topk", "attention"))
    # Nesting, by the clock: an event's parents are those whose times enclose its own.
    by_start = sorted(range(len(events)), key=lambda i: (events[i][5], -events[i][6]))
    open_events = []
    for i in by_start:
        while open_events and events[open_events[-1]][6] < events[i][6]:
            open_events.pop()
        assert log.ranges[i].parents == tuple(events[j][1] for j in open_events), events[i]
        open_events.append(i)


def test_the_tree_is_session_step_layer_stage(replay, small_run):
    log, _ = replay()
    assert log.domains == ["adamas"] and log.n_destroyed == 1 and log.n_plain == 0
    session = small_run[0].name
    depths = Counter(len(r.parents) for r in log.ranges)
    assert depths[0] == 1 and log.ranges[-1].name == session and log.ranges[-1].category == "session"
    for r in log.ranges:
        if r.category in STAGES:
            assert r.parents == ((session, "step", "layer") if r.payload["step"] >= 0 else (session,))
    steps = [r for r in log.ranges if r.category == "decode step"]
    layers = [r for r in log.ranges if r.category == "layer"]
    assert [r.payload["step"] for r in steps] == list(range(16))
    assert {r.payload["layer"] for r in layers} == {2, 5} and len(layers) == 32
    # The small trace has 320 tokens; its 16 steps are at the last of them.
    for r in [*steps, *layers, *(r for r in log.ranges if r.category in STAGES and r.payload["step"] >= 0)]:
        assert r.payload["seq_len"] == 305 + r.payload["step"]


def test_one_category_a_stage(replay):
    log, _ = replay()
    assert [log.categories[str(1 + i)] for i in range(len(STAGES))] == STAGES
    assert len(set(log.categories.values())) == len(log.categories) == len(STAGES) + 3
    assert {r.category for r in log.ranges} == {*STAGES, "session", "decode step", "layer"} - {"step"}


def test_a_tool_without_schemas_gets_a_number(replay):
    log, _ = replay(ADAMAS_NVTX_PLAIN="1")
    assert log.schemas == {}
    topk = [r.payload for r in log.ranges if r.name == "topk"]
    assert Counter(number & 0xffffffff for number in topk) == {16: len(topk) // 2, 64: len(topk) // 2}
    assert {number >> 32 for number in topk} == set(range(305, 321))


def test_a_tool_that_is_not_there_changes_nothing(adamas, tool, small_run):
    result = adamas("replay", small_run[0], "--db", "x.db", "--quiet",
                    env={**os.environ, "NVTX_INJECTION64_PATH": "gone.so"})
    assert (result.code, result.out, result.err) == (0, "", "")


def test_with_no_tool_attached_ranges_cost_next_to_nothing(adamas, tool, bundled, tmp_path):
    """A layer's range and seven stages' beside a step of the bundled session, at the p10 of its times: 0.5% on a quiet machine
    (`ninja bench` measures it), and never ten times that."""
    finding = next(f for f in json.loads(adamas("doctor", "--json").out) if f["what"] == "NVTX")
    range_ns = float(finding["text"].split("costs ")[1].split(" ns")[0])
    assert adamas("replay", bundled, "--db", "step.db", "--quiet", "--budgets", "64", "--seq-lens", "4096", "--policies",
                  "adamas", "--thresholds", "calibrated").code == 0
    [(step_ns,)] = query(tmp_path / "step.db", "SELECT p10 FROM stage_summary WHERE stage = 'step' AND metric = 'time_ns'")
    print(f"{range_ns} ns a range, {step_ns:.0f} ns a step of one layer: {8 * range_ns / step_ns:.3%}")
    assert 8 * range_ns < 0.05 * step_ns
