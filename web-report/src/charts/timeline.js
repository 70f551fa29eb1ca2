// timeline.js: one decode step as the GPU ran it: one panel per kind of step on a common axis, one row per stage, one bar per
// kernel.
//
//     hadamard  ▆
//     distance     ▆▆▆▆▆▆▆
//     topk                  ▆▆▆▆      between the bars: gaps, named where they fit
//
// A kernel that does several stages at once is of the stage `step`, and has a row of its own name.

import { select } from '../dom.js';
import { axisLook, baseOption, panelTitle, tooltipBody } from './frame.js';
import { count, duration, durationUnit, ratio } from './format.js';
import { headlineOf, rowsOf } from './gpu.js';
import { theme } from './theme.js';

const ROW = 20, TITLE = 34, AXIS = 40;

// Everything but the implementation: what shares one axis.
export const axisOf = ({ config }) => ['seq_len', 'budget', 'n_q_heads', 'n_kv_heads', 'batch', 'launch', 'selection']
    .map((key) => config[key]).join(' ');

function nameOf({ config }, all) {
    const varies = (key) => new Set(all.map((row) => row.config[key])).size > 1;
    return [`${count(config.seq_len)} tokens`, ...(config.budget === null ? [] : [`budget ${count(config.budget)}`]),
            ...(varies('n_kv_heads') ? [`${config.n_kv_heads} KV heads`] : []),
            ...(varies('batch') ? [`batch ${config.batch}`] : []), ...(varies('selection') ? [`per ${config.selection}`] : []),
            ...(varies('launch') ? [`${config.launch} launches`] : [])].join(', ');
}

export const drawable = (report, profile) => rowsOf(report, 'timelines', profile);

// Adds the control and returns the choice { axis }, which it keeps up to date. First: the axis of the headline, or else
// the one with the most kinds of step.
export function timelineControls(report, profile, controls, changed) {
    const rows = drawable(report, profile), axes = new Map();
    for (const row of rows) if (!axes.has(axisOf(row))) axes.set(axisOf(row), row);
    const headline = headlineOf(report, profile);
    const kinds = (axis) => new Set(rows.filter((row) => axisOf(row) === axis).map((row) => row.config.variant)).size;
    const rank = ([axis, { config }]) => kinds(axis)
        + (config.seq_len === headline.seq_len && config.budget === headline.budget ? 10 : 0)
        + (config.launch === 'graph' ? 1 : 0);
    const best = [...axes].reduce((a, b) => (rank(b) > rank(a) ? b : a));
    const choice = { axis: best[0] };
    if (axes.size > 1)
        controls.append(select('step', [...axes].map(([axis, row]) => [axis, nameOf(row, rows)]), choice.axis, (value) => {
            choice.axis = value;
            changed();
        }));
    return choice;
}

const laneOf = (row) => (row.stage === 'step' || !row.stage ? row.name : row.stage);

// A panel: its kernels, its lanes, and the gaps between kernels.
function panelOf(variant, rows) {
    const lanes = [...new Set(rows.map(laneOf))];
    const gaps = [];
    let busy_until = 0, busy_ns = 0;
    for (const row of rows) {
        if (row.start_ns > busy_until && busy_until > 0)
            gaps.push({ start_ns: busy_until, end_ns: row.start_ns, lane: lanes.indexOf(laneOf(row)), next_ns: row.end_ns });
        busy_ns += Math.max(0, row.end_ns - Math.max(row.start_ns, busy_until));
        busy_until = Math.max(busy_until, row.end_ns);
    }
    return { variant, rows, lanes, gaps, span_ns: busy_until, busy_ns };
}

function titleOf({ variant, rows, span_ns, busy_ns }) {
    const sum_ns = rows.reduce((sum, row) => sum + row.end_ns - row.start_ns, 0), gap_ns = span_ns - busy_ns;
    const gaps = gap_ns > 0 ? `of it ${duration(gap_ns)} gaps (${ratio(gap_ns / span_ns)})` : 'no gaps';
    return `${variant}: ${duration(span_ns)}, ${gaps}${sum_ns > busy_ns
        ? `; kernels overlap by ${duration(sum_ns - busy_ns)}` : ''}`;
}

function barSeries(panel, axis) {
    const colours = theme().stages;
    return {
        type: 'custom', xAxisIndex: axis, yAxisIndex: axis, z: 3,
        data: panel.rows.map((row) => ({ value: [row.start_ns, panel.lanes.indexOf(laneOf(row)), row.end_ns], row })),
        renderItem: (params, api) => {
            const [x, y] = api.coord([api.value(0), api.value(1) + 0.5]), [right] = api.coord([api.value(2), 0]);
            return { type: 'rect', shape: { x, y: y - 0.36 * ROW, width: Math.max(1, right - x), height: 0.72 * ROW, r: 1.5 },
                     style: { fill: colours[panel.rows[params.dataIndex].stage] ?? colours.step } };
        },
    };
}

// A dotted line from the end of one kernel to the start of the next, in the next one's lane; its length in words is
// written before it, or, at the left margin, behind the kernel.
function gapSeries(panel, axis, left_px) {
    return {
        type: 'custom', xAxisIndex: axis, yAxisIndex: axis, z: 2, silent: true, tooltip: { show: false },
        data: panel.gaps.map((gap) => [gap.start_ns, gap.end_ns, gap.lane, gap.next_ns]),
        renderItem: (_, api) => {
            const [from, y] = api.coord([api.value(0), api.value(2) + 0.5]), [to] = api.coord([api.value(1), 0]);
            const [behind] = api.coord([api.value(3), 0]), isTight = from - left_px < 44;
            const look = { y, verticalAlign: 'middle', fontSize: 9.5, fill: theme().quiet,
                           text: duration(api.value(1) - api.value(0)) };
            return { type: 'group', children: [
                { type: 'line', shape: { x1: from, y1: y, x2: to, y2: y },
                  style: { stroke: theme().text, lineWidth: 1, lineDash: [2, 2] } },
                { type: 'text', style: { ...look, ...(isTight ? { x: behind + 4, align: 'left' }
                                                              : { x: from - 3, align: 'right' }) } },
            ] };
        },
    };
}

function tooltip({ row }) {
    const notes = row.kind === 'kernel'
        ? [`${count(row.n_blocks)} blocks of ${count(row.n_threads)} threads, ${row.registers} registers, `
           + `${count(row.shared_bytes ?? 0)} bytes of shared memory`] : [`${row.kind} of ${count(row.bytes ?? 0)} bytes`];
    return tooltipBody(row.name, [[theme().stages[row.stage] ?? theme().stages.step, row.stage || 'no stage',
                                   duration(row.end_ns - row.start_ns)]],
                       [`from ${duration(row.start_ns)} to ${duration(row.end_ns)} of step ${row.step}`, ...notes]);
}

export function drawTimeline(report, profile, choice, width) {
    const rows = drawable(report, profile).filter((row) => axisOf(row) === choice.axis), base = baseOption();
    const panels = [...new Set(rows.map((row) => row.config.variant))]
        .map((variant) => panelOf(variant, rows.filter((row) => row.config.variant === variant)))
        .sort((a, b) => (b.variant === 'six') - (a.variant === 'six') || b.rows.length - a.rows.length);
    const look = axisLook(), max_ns = Math.max(...panels.map((panel) => panel.span_ns)) * 1.02, unit = durationUnit(max_ns);
    // Names of kernels are long: they get as much width as they need, up to a third.
    const longest = Math.max(8, ...panels.flatMap((panel) => panel.lanes.map((lane) => lane.length)));
    const left = Math.round(Math.min(width / 3, 14 + 6.2 * longest));
    let top = 0;
    const grids = panels.map((panel) => {
        const grid = { left, top: top + TITLE, width: width - left - 14, height: panel.lanes.length * ROW };
        top += TITLE + panel.lanes.length * ROW + AXIS;
        return grid;
    });
    const stages = [...new Set(rows.map((row) => row.stage))];
    const steps = rows.length > 0 ? `median of ${rows[0].n_steps} steps traced` : '';
    return {
        height: Math.max(top, 40),
        label: `Timelines of one step: ${panels.map((panel) => `${panel.variant}, ${panel.rows.length} kernels in `
            + `${duration(panel.span_ns)}, gaps ${duration(panel.span_ns - panel.busy_ns)}`).join('; ')}. `
            + 'The tables hold every kernel.',
        legend: [...stages.map((stage) => ({ name: stage === 'step' ? 'several stages at once' : stage || 'no stage',
                                             colour: theme().stages[stage] ?? theme().stages.step, mark: 'block' })),
                 { name: 'gap', colour: theme().text, mark: 'dashed' }],
        option: {
            ...base,
            title: panels.map((panel, i) => panelTitle(titleOf(panel), { left: 2, top: grids[i].top })),
            tooltip: { ...base.tooltip, trigger: 'item', formatter: (hit) => (hit.data.row ? tooltip(hit.data) : '') },
            grid: grids,
            xAxis: panels.map((_, gridIndex) => ({
                ...look, gridIndex, type: 'value', min: 0, max: max_ns, name: gridIndex === panels.length - 1 ? steps : '',
                nameLocation: 'middle', nameGap: 24, axisTick: { show: false }, splitNumber: width < 560 ? 3 : 6,
                axisLabel: { ...look.axisLabel, showMaxLabel: false,
                             formatter: (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}` } })),
            yAxis: panels.map((panel, gridIndex) => ({
                ...look, gridIndex, type: 'value', min: 0, max: panel.lanes.length, inverse: true, splitLine: { show: false },
                axisLine: { show: false }, axisTick: { show: false },
                axisLabel: { ...look.axisLabel, customValues: panel.lanes.map((_, i) => i + 0.5), width: left - 12,
                             overflow: 'truncate', formatter: (at) => panel.lanes[Math.floor(at)] } })),
            series: panels.flatMap((panel, i) => [barSeries(panel, i), gapSeries(panel, i, left)]),
        },
    };
}
