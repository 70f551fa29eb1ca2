// heads.js: the mean of every head, for one metric, length and policy of the reader's choice.
//
//   one panel per budget:  rows are layers, columns query heads; the worst head of a panel is outlined

import { select } from '../dom.js';
import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, ratio } from './format.js';
import { mix, theme } from './theme.js';

const METRICS = [['output_rel_l2', 'output error'], ['recall', 'recall'], ['mass', 'softmax mass']];

export function drawable(report, session) {
    return report.heads.filter((matrix) =>
        matrix.session === session && METRICS.some(([name]) => name === matrix.metric));
}

// Pixels that the name of a layer takes: smaller rows are not all named.
const LABEL_HEIGHT = 12;

// --- What the reader chooses ---

// Fills the controls and returns the choice { metric, series, seq_len }, which they keep up to date; `changed`
// is called after each change.
export function headControls(report, session, controls, changed) {
    const matrices = drawable(report, session);
    const names = [...new Set(matrices.map((matrix) => matrix.series))];
    const lengths = [...new Set(matrices.map((matrix) => matrix.seq_len))].sort((a, b) => a - b);
    const metrics = METRICS.filter(([name]) => matrices.some((matrix) => matrix.metric === name));
    const choice = { metric: metrics[0][0], seq_len: lengths[lengths.length - 1],
                     series: names.find((name) => !name.startsWith('oracle')) ?? names[0] };
    const set = (key, parse) => (value) => {
        choice[key] = parse(value);
        changed();
    };
    controls.append(
        select('metric', metrics, choice.metric, set('metric', String)),
        select('policy', names.map((name) => [name, name]), choice.series, set('series', String)),
        select('length', lengths.map((length) => [String(length), `${count(length)} tokens`]), String(choice.seq_len),
               set('seq_len', Number)));
    return choice;
}

// --- The panels ---

const cellsOf = (matrix) => matrix.mean.flatMap((heads, row) =>
    heads.flatMap((mean, head) => (mean === null ? [] : [{ row, head, mean, layer: matrix.layers[row], matrix }])));

function worstOf(cells, higherIsBetter) {
    const isWorse = (a, b) => (higherIsBetter ? a.mean < b.mean : a.mean > b.mean);
    return cells.reduce((worst, cell) => (worst === null || isWorse(cell, worst) ? cell : worst), null);
}

function seriesOf(cells, worst, axis, size, colour) {
    return {
        type: 'custom', xAxisIndex: axis, yAxisIndex: axis, clip: false,
        // The outlined cell comes last, on top of the cells around it.
        data: [...cells.filter((cell) => cell !== worst), ...(worst ? [worst] : [])]
            .map((cell) => ({ value: [cell.head, cell.row, cell.mean], cell })),
        renderItem: (_, api) => {
            const [x, y] = api.coord([api.value(0), api.value(1)]);
            const outlined = worst && api.value(0) === worst.head && api.value(1) === worst.row;
            return { type: 'rect', shape: { x: x + 0.5, y: y + 0.5, width: size - 1, height: size - 1 },
                     style: { fill: colour(api.value(2)), stroke: outlined ? theme().text : theme().line,
                              lineWidth: outlined ? 2 : 0.5 } };
        },
    };
}

function axis(gridIndex, n, ticks, formatter) {
    const look = axisLook();
    return { ...look, gridIndex, type: 'value', min: 0, max: n, splitLine: { show: false }, axisTick: { show: false },
             axisLine: { show: false },
             axisLabel: { ...look.axisLabel, fontSize: 10, margin: 4, customValues: ticks, formatter } };
}

// The middles of every step-th row.
const layerTicks = (n_layers, step) =>
    Array.from({ length: Math.ceil(n_layers / step) }, (_, i) => i * step + 0.5);

function tooltip({ cell }, choice, name, colour) {
    const { matrix } = cell;
    const n = matrix.n_min === matrix.n_max ? count(matrix.n_min) : `${count(matrix.n_min)} to ${count(matrix.n_max)}`;
    return tooltipBody(`layer ${cell.layer}, head ${cell.head}`,
                       [[colour(cell.mean), `mean ${name}`, ratio(cell.mean)]],
                       [`${choice.series}; budget ${count(matrix.budget)} of ${count(choice.seq_len)} tokens`,
                        `n = ${n} steps`]);
}

export function drawHeads(report, session, choice, width) {
    const higherIsBetter = report.metrics.find((metric) => metric.name === choice.metric)?.better === 'higher';
    const matrices = drawable(report, session)
        .filter((matrix) => ['metric', 'series', 'seq_len'].every((key) => matrix[key] === choice[key]))
        .sort((a, b) => a.budget - b.budget);
    const cells = matrices.map(cellsOf), means = cells.flat().map((cell) => cell.mean), base = baseOption();
    const n_heads = Math.max(1, ...matrices.flatMap((matrix) => matrix.mean.map((heads) => heads.length)));
    const n_layers = Math.max(1, ...matrices.map((matrix) => matrix.layers.length));
    const size = Math.max(7, Math.min(18, Math.floor((Math.min(width, 330) - 60) / n_heads)));
    const labelStep = Math.ceil(LABEL_HEIGHT / size);
    const layout = layPanels(matrices.length, width, { minWidth: 60 + size * n_heads, height: 66 + size * n_layers,
                                                       left: 34, right: 12, top: 30, bottom: 36, maxColumns: 12 });
    // Good heads are pale and bad ones strong: the scale runs from the best possible value to the worst shown.
    const best = higherIsBetter ? 1 : 0;
    const worst = higherIsBetter ? Math.min(1, ...means) : Math.max(0, ...means);
    const colour = (mean) => mix(theme().heat, worst === best ? 0 : (mean - best) / (worst - best));
    const name = METRICS.find(([key]) => key === choice.metric)[1];
    return {
        height: Math.max(layout.height, 40),
        label: `Heat maps of the mean ${name} of every head, ${choice.series}, ${count(choice.seq_len)} tokens. `
             + 'The tables below hold the worst head of each layer.',
        legend: [{ from: ratio(best), name: `${ratio(worst)} (the worst shown)`, mark: 'ramp', ramp: theme().heat },
                 { name: 'worst head of its panel', colour: theme().text, mark: 'frame' }],
        option: {
            ...base,
            title: layout.panels.map((panel, i) => panelTitle(`budget ${count(matrices[i].budget)}`, panel)),
            tooltip: { ...base.tooltip, trigger: 'item', formatter: (hit) => tooltip(hit.data, choice, name, colour) },
            grid: layout.panels.map((panel) => ({ ...panel, width: size * n_heads, height: size * n_layers })),
            xAxis: matrices.map((_, i) => ({ ...axis(i, n_heads, n_heads === 1 ? [0.5] : [0.5, n_heads - 0.5],
                                                     (at) => String(Math.floor(at))),
                                             name: 'head', nameLocation: 'middle', nameGap: 18 })),
            yAxis: matrices.map((matrix, i) => ({ ...axis(i, n_layers, layerTicks(matrix.layers.length, labelStep),
                                                          (at) => `L${matrix.layers[Math.floor(at)]}`),
                                                  inverse: true })),
            series: cells.map((panel, i) => seriesOf(panel, worstOf(panel, higherIsBetter), i, size, colour)),
        },
    };
}
