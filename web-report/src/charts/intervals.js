// intervals.js: distributions side by side: one row per policy, one panel per metric or target.
//
//     adamas l1   |    ---====o====-----   <>        ---- p5 to p95   ==== p10 to p90   o median   <> mean of the worst head

import { select } from '../dom.js';
import { axisLook, baseOption, panelTitle, tooltipBody } from './frame.js';
import { count, measuredOn, ratio, ratioTick } from './format.js';
import { distinct } from './gpu.js';
import { errorScale, shareScale } from './quality.js';
import { lookColour, theme } from './theme.js';

const ROW = 22;

const POLICY_METRICS = [['recall', 'recall'], ['mass', 'softmax mass'], ['output_rel_l2', 'output error']];

// --- Rows ---

const ofSession = (report, session, test) =>
    report.quality.filter((row) => row.session === session && row.status === 'ok' && test(row));

// Policies side by side: every metric at one length and budget.
export const policyRows = (report, session) => ofSession(report, session, (row) =>
    row.budget !== null && POLICY_METRICS.some(([name]) => name === row.metric));

// Adaptive budgets: the smallest budget that reaches a target, in tokens.
export const budgetRows = (report, session) => ofSession(report, session, (row) => row.metric.startsWith('budget_for_'));

// "mass = 0.99" of "budget_for_mass_0.99"
function targetName(metric) {
    const [, name, value] = metric.match(/^budget_for_(.*)_([^_]+)$/) ?? [null, metric, ''];
    return name === 'output_rel_l2' ? `output error \u2264 ${ratioTick(Number(value))}`
        : name === 'mass' ? `mass \u2265 ${ratioTick(Number(value))}` : `${name} ${value}`;
}

// --- Controls: what the rows are of ---

function controlsOf(controls, lengths, budgets, choice, changed) {
    const set = (key) => (value) => {
        choice[key] = Number(value);
        changed();
    };
    if (lengths.length > 1)
        controls.append(select('length', lengths.map((length) => [String(length), `${count(length)} tokens`]),
                               String(choice.seq_len), set('seq_len')));
    if (budgets.length > 1)
        controls.append(select('budget', budgets.map((budget) => [String(budget), count(budget)]), String(choice.budget),
                               set('budget')));
    return choice;
}

// First: the longest context, and the budget of the summary, at most an eighth of it.
export function policyControls(report, session, controls, changed) {
    const rows = policyRows(report, session), lengths = distinct(rows.map((row) => row.seq_len));
    const budgets = distinct(rows.map((row) => row.budget)), seq_len = lengths[lengths.length - 1];
    const budget = budgets.filter((size) => size <= seq_len / 8).pop() ?? budgets[0];
    return controlsOf(controls, lengths, budgets, { seq_len, budget }, changed);
}

export function budgetControls(report, session, controls, changed) {
    const lengths = distinct(budgetRows(report, session).map((row) => row.seq_len));
    return controlsOf(controls, lengths, [], { seq_len: lengths[lengths.length - 1], budget: null }, changed);
}

// --- The chart ---

// Tokens on a logarithmic axis to base 2, up to the whole context.
function tokenScale(rows) {
    const low = Math.floor(Math.log2(Math.max(1, Math.min(...rows.map((row) => row.p05)))));
    const high = Math.log2(Math.max(...rows.map((row) => row.seq_len)));
    const step = Math.max(1, Math.ceil((high - low) / 5));
    const ticks = Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => low + i * step);
    return { place: (value) => Math.log2(Math.max(1, value)), min: low, max: high + 0.08, ticks, limit: high,
             tick: (power) => count(Math.round(2 ** power)), show: (value) => `${count(Math.round(value))} tokens` };
}

function rowSeries(panel, names, looks, axis) {
    const { scale } = panel, place = (value) => Math.min(scale.max, Math.max(scale.min, scale.place(value)));
    return {
        type: 'custom', xAxisIndex: axis, yAxisIndex: axis, clip: false,
        data: panel.rows.map((row) => ({ row, value: [
            ...['p05', 'p10', 'median', 'p90', 'p95'].map((key) => place(row[key])), names.indexOf(row.series),
            row.worst_mean === null ? place(row.median) : place(row.worst_mean)] })),
        renderItem: (params, api) => {
            const row = panel.rows[params.dataIndex], colour = lookColour(looks.get(row.series));
            const at = (i) => api.coord([api.value(i), api.value(5) + 0.5]), [, y] = at(2);
            const bar = (from, to, size, opacity) => ({ type: 'rect', style: { fill: colour, opacity },
                shape: { x: at(from)[0], y: y - size / 2, width: Math.max(1, at(to)[0] - at(from)[0]), height: size, r: 1 } });
            const [worst] = at(6), d = 4.5;
            return { type: 'group', children: [
                // Catches the mouse over the whole row.
                { type: 'rect', shape: { x: params.coordSys.x, y: y - ROW / 2, width: params.coordSys.width, height: ROW },
                  style: { fill: 'transparent' } },
                bar(0, 4, 2, 0.65), bar(1, 3, 9, 0.4),
                { type: 'circle', shape: { cx: at(2)[0], cy: y, r: 4.2 }, style: { fill: colour, stroke: theme().surface,
                                                                                lineWidth: 1 } },
                ...(row.worst_mean === null ? [] : [{ type: 'polygon',
                    shape: { points: [[worst - d, y], [worst, y - d], [worst + d, y], [worst, y + d]] },
                    style: { fill: theme().surface, stroke: colour, lineWidth: 1.2 } }]),
            ] };
        },
    };
}

function tooltip({ row }, scale, looks) {
    const worst = row.worst_mean === null ? []
        : [[null, 'worst head, mean', `${scale.show(row.worst_mean)}  L${row.worst_layer} h${row.worst_head}`]];
    const at = `${row.budget === null ? '' : `budget ${count(row.budget)} `}of ${count(row.seq_len)} tokens`;
    return tooltipBody(row.series, [[lookColour(looks.get(row.series)), 'median', scale.show(row.median)],
                                    [null, 'p10 to p90', `${scale.show(row.p10)} to ${scale.show(row.p90)}`],
                                    [null, 'p5 to p95', `${scale.show(row.p05)} to ${scale.show(row.p95)}`],
                                    ...worst],
                       [at, `n = ${count(row.n)} values of step, layer and head`,
                        ...(row.note ? [`${row.note}.`] : []), ...measuredOn([row])]);
}

// Panels of { title, rows, scale } with a row for each of the names.
function draw(panels, names, looks, width, label) {
    const base = baseOption(), look = axisLook();
    const left = Math.round(Math.min(width * 0.36, 16 + 6.1 * Math.max(8, ...names.map((name) => name.length))));
    const columns = Math.max(1, Math.min(panels.length, Math.floor((width - left) / 230)));
    const cell = (width - left) / columns, high = ROW * names.length;
    const grids = panels.map((_, i) => ({ left: Math.round(left + (i % columns) * cell) + (i % columns > 0 ? 8 : 0),
                                          top: Math.floor(i / columns) * (high + 74) + 28,
                                          width: Math.round(cell) - 52, height: high }));
    return {
        height: Math.ceil(panels.length / columns) * (high + 74) - 6, label,
        legend: [{ name: 'median', colour: theme().quiet, mark: 'dot' },
                 { name: 'p10 to p90', colour: theme().quiet, mark: 'band' },
                 { name: 'p5 to p95', colour: theme().quiet, mark: 'line' },
                 { name: 'mean of the worst head', colour: theme().quiet, mark: 'hollow' },
                 ...(panels.some(({ scale }) => scale.limit)
                     ? [{ name: 'the whole context', colour: theme().text, mark: 'dashed' }] : [])],
        option: {
            ...base,
            title: panels.map((panel, i) => panelTitle(panel.title, grids[i])),
            tooltip: { ...base.tooltip, trigger: 'item',
                       formatter: (hit) => (hit.data.row ? tooltip(hit.data, panels[hit.seriesIndex].scale, looks) : '') },
            grid: grids,
            xAxis: panels.map(({ scale }, gridIndex) => ({
                ...look, gridIndex, type: 'value', min: scale.min, max: scale.max, axisLine: { show: false },
                axisTick: { show: false, customValues: scale.ticks },
                axisLabel: { ...look.axisLabel, customValues: scale.ticks, formatter: scale.tick } })),
            yAxis: panels.map((_, gridIndex) => ({
                ...look, gridIndex, type: 'value', min: 0, max: names.length, inverse: true, interval: 1,
                axisLine: { show: false }, axisTick: { show: false },
                axisLabel: { ...look.axisLabel, show: gridIndex % columns === 0, customValues: names.map((_, i) => i + 0.5),
                             width: left - 12, overflow: 'truncate', formatter: (at) => names[Math.floor(at)] } })),
            series: [
                ...panels.map((panel, i) => rowSeries(panel, names, looks, i)),
                ...panels.flatMap(({ scale }, i) => (scale.limit === undefined ? [] : [{
                    type: 'line', xAxisIndex: i, yAxisIndex: i, symbol: 'none', silent: true, tooltip: { show: false }, z: 1,
                    lineStyle: { color: theme().text, width: 1, type: [4, 3] },
                    data: [[scale.limit, 0], [scale.limit, names.length]] }])),
            ],
        },
    };
}

const inOrder = (looks, rows) => [...looks.keys()].filter((name) => rows.some((row) => row.series === name));

export function drawPolicies(report, looks, session, choice, width) {
    const rows = policyRows(report, session).filter((row) => row.seq_len === choice.seq_len && row.budget === choice.budget);
    const scaleOf = (metric, own) => (metric === 'output_rel_l2' ? errorScale(own, 'p05', 'p95') : shareScale(own, 'p05'));
    const panels = POLICY_METRICS
        .map(([metric, title]) => ({ metric, title, rows: rows.filter((row) => row.metric === metric) }))
        .filter((panel) => panel.rows.length > 0)
        .map((panel) => ({ ...panel, scale: { ...scaleOf(panel.metric, panel.rows), show: ratio } }));
    return draw(panels, inOrder(looks, rows), looks, width,
                `Intervals of recall, mass and output error of every policy, budget ${count(choice.budget)} of `
                + `${count(choice.seq_len)} tokens. The tables below hold the figures.`);
}

export function drawBudgets(report, looks, session, choice, width) {
    const rows = budgetRows(report, session).filter((row) => row.seq_len === choice.seq_len);
    const panels = [...new Set(rows.map((row) => row.metric))].map((metric) => {
        const own = rows.filter((row) => row.metric === metric);
        return { title: targetName(metric), rows: own, scale: tokenScale(own) };
    });
    return draw(panels, inOrder(looks, rows), looks, width,
                `Intervals of the smallest budget that reaches ${panels.map((panel) => panel.title).join(' or ')}, for every `
                + `policy at ${count(choice.seq_len)} tokens. The tables below hold the figures.`);
}
