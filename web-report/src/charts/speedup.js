// speedup.js: dense attention's time over that of a whole step, as a heat map: one panel per kind of step, one row per length,
// one column per budget, and the line where both are equally fast.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, duration, measuredOn, ratioInterval, times } from './format.js';
import { chosenUnits, distinct, findUnit } from './gpu.js';
import { mix, theme } from './theme.js';

// Cells of one kind of step: { length, budget, row, column, step, dense, gain }.
function cellsOf(units, variant, lengths, budgets) {
    return lengths.flatMap((length, row) => budgets.flatMap((budget, column) => {
        const step = findUnit(units, 'step', length, budget, variant), dense = findUnit(units, 'dense', length, null);
        return step && dense ? [{ length, budget, row, column, step, dense, gain: dense.median / step.median }] : [];
    }));
}

// Edges between adjacent cells where one gains and the other loses, as [[x, y], [x, y]] in cells.
function breakEven(cells) {
    const at = new Map(cells.map((cell) => [`${cell.row} ${cell.column}`, cell]));
    return cells.flatMap((cell) => {
        const differs = (row, column) => {
            const other = at.get(`${row} ${column}`);
            return other && (other.gain >= 1) !== (cell.gain >= 1);
        };
        const { row, column } = cell;
        return [...(differs(row, column + 1) ? [[[column + 1, row], [column + 1, row + 1]]] : []),
                ...(differs(row + 1, column) ? [[[column, row + 1], [column + 1, row + 1]]] : [])];
    });
}

// Gains and losses each on a ramp of their own, equal factors equally far along it.
const colourOf = (gain, maxGain) => (gain >= 1 ? mix(theme().gain, 0.08 + 0.92 * Math.log(gain) / Math.log(maxGain))
                                            : mix(theme().loss, 0.15 + 0.85 * Math.log(1 / gain) / Math.log(maxGain)));

// Black or white, whichever reads better on the colour "rgb(r,g,b)".
function inkOn(colour) {
    const [r, g, b] = colour.match(/\d+/g).map(Number);
    return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#14181d' : '#ffffff';
}

function cellSeries(cells, axis, maxGain) {
    return {
        type: 'custom', xAxisIndex: axis, yAxisIndex: axis, clip: false, data: cells.map((cell) => ({
            value: [cell.column, cell.row, cell.gain], cell })),
        renderItem: (params, api) => {
            const [x, y] = api.coord([api.value(0), api.value(1)]), [width, height] = api.size([1, 1]);
            const gain = api.value(2), fill = colourOf(gain, maxGain);
            return { type: 'group', children: [
                { type: 'rect', shape: { x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1 }, style: { fill } },
                { type: 'text', silent: true, style: {
                    text: width < 30 ? gain.toFixed(gain < 9.95 ? 1 : 0) : times(gain), x: x + width / 2, y: y + height / 2,
                    align: 'center', verticalAlign: 'middle', fontSize: width < 34 ? 9.5 : 11, fill: inkOn(fill) } },
            ] };
        },
    };
}

function lineSeries(edges, axis) {
    return {
        type: 'custom', xAxisIndex: axis, yAxisIndex: axis, clip: false, silent: true, z: 5, tooltip: { show: false },
        data: edges.map((edge) => ({ value: [...edge[0], ...edge[1]] })),
        renderItem: (_, api) => ({
            type: 'polyline', shape: { points: [api.coord([api.value(0), api.value(1)]),
                                                api.coord([api.value(2), api.value(3)])] },
            style: { fill: 'none', stroke: theme().text, lineWidth: 3, lineCap: 'square' } }),
    };
}

const spread = (unit) => `${duration(unit.median)} (p10 to p90: ${duration(unit.p10)} to ${duration(unit.p90)}; `
                       + `n = ${count(unit.n)})`;

function tooltip({ cell }, maxGain) {
    const { step, dense, gain } = cell;
    return tooltipBody(`budget ${count(cell.budget)} of ${count(cell.length)} tokens`,
                       [[colourOf(gain, maxGain), gain >= 1 ? 'faster than dense' : 'slower than dense',
                         `${times(gain)} times`]],
                       [ratioInterval(dense, step)[0]
                            ?? `p10 to p90: ${times(dense.p10 / step.p90)} to ${times(dense.p90 / step.p10)} times`,
                        `step (${step.config.variant}): ${spread(step)}`, `dense (${dense.config.variant}): ${spread(dense)}`,
                        ...measuredOn([step, dense])]);
}

function axis(gridIndex, n, name, labels) {
    const look = axisLook();
    return { ...look, gridIndex, type: 'value', min: 0, max: n, splitLine: { show: false }, axisTick: { show: false },
             axisLine: { show: false }, name, nameLocation: 'middle',
             axisLabel: { ...look.axisLabel, customValues: labels.map((_, i) => i + 0.5),
                          formatter: (at) => labels[Math.floor(at)] } };
}

export const drawable = (report, profile) => ['step', 'dense'].every((stage) =>
    report.units.some((unit) => unit.profile === profile && unit.stage === stage && unit.status === 'ok'));

export function drawSpeedup(report, profile, width) {
    const units = chosenUnits(report, profile), steps = units.filter((unit) => unit.stage === 'step'), base = baseOption();
    const lengths = distinct(steps.map((unit) => unit.config.seq_len));
    const budgets = distinct(steps.map((unit) => unit.config.budget));
    const variants = [...new Set(steps.map((unit) => unit.config.variant))].sort((a, b) => (a === 'six') - (b === 'six'));
    const panels = variants.map((variant) => ({ variant, cells: cellsOf(units, variant, lengths, budgets) }))
        .filter(({ cells }) => cells.length > 0);
    const gains = panels.flatMap(({ cells }) => cells.map((cell) => cell.gain));
    const maxGain = Math.max(1.5, ...gains, ...gains.map((gain) => 1 / gain));
    const layout = layPanels(panels.length, width, { minWidth: Math.max(300, 62 + 36 * budgets.length), left: 60, right: 12,
                                                     height: 84 + 32 * lengths.length, top: 34, bottom: 50, maxColumns: 3 });
    const edges = panels.map(({ cells }) => breakEven(cells));
    const isCrossed = edges.some((list) => list.length > 0);
    const outcome = isCrossed ? 'break-even'
        : `break-even: not reached, every step here is ${gains.every((gain) => gain >= 1) ? 'faster' : 'slower'}`;
    return {
        height: Math.max(layout.height, 40),
        label: `Heat maps of the speed-up over dense attention by length and budget, ${panels.map(({ variant }) =>
            variant).join(' and ')}; from ${times(Math.min(...gains))} to ${times(Math.max(...gains))} times. `
             + 'The tables below hold the figures.',
        legend: [...(gains.some((gain) => gain >= 1)
                     ? [{ from: 'equal', name: `${times(maxGain)} times faster`, mark: 'ramp', ramp: theme().gain }] : []),
                 ...(gains.some((gain) => gain < 1)
                     ? [{ from: 'equal', name: `${times(maxGain)} times slower`, mark: 'ramp', ramp: theme().loss }] : []),
                 { name: outcome, colour: theme().text, mark: 'tick' }],
        option: {
            ...base,
            title: layout.panels.map((panel, i) => panelTitle(
                panels[i].variant === 'six' ? 'six stages' : `${panels[i].variant} step`, panel)),
            tooltip: { ...base.tooltip, trigger: 'item', formatter: (hit) => tooltip(hit.data, maxGain) },
            grid: layout.panels,
            xAxis: panels.map((_, i) => ({ ...axis(i, budgets.length, 'budget, tokens', budgets.map(count)), nameGap: 26 })),
            yAxis: panels.map((_, i) => ({ ...axis(i, lengths.length, '', lengths.map(count)), inverse: true })),
            series: panels.flatMap(({ cells }, i) => [cellSeries(cells, i, maxGain), lineSeries(edges[i], i)]),
        },
    };
}
