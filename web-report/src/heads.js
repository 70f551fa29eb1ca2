// heads.js: the mean of every head, for one metric, length and policy of the reader's choice.
//
//   one panel a budget:  rows are layers, columns query heads; the worst head of a panel is outlined

import { axisLook, baseOption, element, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, ratio } from './format.js';
import { theme } from './theme.js';

const METRICS = [['output_rel_l2', 'output error'], ['recall', 'recall'], ['mass', 'softmax mass']];

export function drawable(report, session) {
    return report.heads.filter((matrix) => matrix.session === session && METRICS.some(([name]) => name === matrix.metric));
}

function select(label, options, value, changed) {
    const control = element('select', '');
    for (const [name, title] of options) control.append(Object.assign(element('option', '', title), { value: name }));
    control.value = value;
    control.addEventListener('change', () => changed(control.value));
    return element('label', '', `${label} `, control);
}

// Controls for what the panels show; `changed` is called after each choice. Returns the choice, which they keep.
export function headControls(report, session, figure, changed) {
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
    const controls = element('div', 'controls',
        select('metric', metrics, choice.metric, set('metric', String)),
        select('policy', names.map((name) => [name, name]), choice.series, set('series', String)),
        select('length', lengths.map((length) => [String(length), `${count(length)} tokens`]), String(choice.seq_len), set('seq_len', Number)));
    figure.append(controls);
    return choice;
}

function mix(ramp, share) {
    const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1), low = Math.min(Math.floor(at), ramp.length - 2);
    const channel = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    const mixed = [0, 1, 2].map((i) => Math.round(channel(ramp[low], i) + (at - low) * (channel(ramp[low + 1], i) - channel(ramp[low], i))));
    return `rgb(${mixed.join(',')})`;
}

function worstOf(cells, higherIsBetter) {
    return cells.reduce((worst, cell) => (worst === null || (higherIsBetter ? cell.mean < worst.mean : cell.mean > worst.mean) ? cell : worst), null);
}

const cellsOf = (matrix) => matrix.mean.flatMap((heads, row) =>
    heads.flatMap((mean, head) => (mean === null ? [] : [{ row, head, mean, layer: matrix.layers[row] }])));

export function drawHeads(report, session, choice, width) {
    const higherIsBetter = report.metrics.find((metric) => metric.name === choice.metric)?.better === 'higher';
    const matrices = drawable(report, session)
        .filter((matrix) => matrix.metric === choice.metric && matrix.series === choice.series && matrix.seq_len === choice.seq_len)
        .sort((a, b) => a.budget - b.budget);
    const cells = matrices.map(cellsOf);
    const n_heads = Math.max(1, ...matrices.flatMap((matrix) => matrix.mean.map((heads) => heads.length)));
    const n_layers = Math.max(1, ...matrices.map((matrix) => matrix.layers.length));
    const size = Math.max(7, Math.min(18, Math.floor((Math.min(width, 330) - 60) / n_heads)));
    const layout = layPanels(matrices.length, width, { minWidth: 60 + size * n_heads, height: 66 + size * n_layers, left: 34, right: 12, top: 30, bottom: 36, maxColumns: 12 });
    // Sound heads are pale, bad ones dark: the scale runs from the best value there can be to the worst seen.
    const means = cells.flat().map((cell) => cell.mean);
    const best = higherIsBetter ? 1 : 0;
    const worst = higherIsBetter ? Math.min(1, ...means) : Math.max(0, ...means);
    const colour = (mean) => mix(theme().heat, worst === best ? 0 : (mean - best) / (worst - best));
    const look = axisLook(), name = METRICS.find(([key]) => key === choice.metric)[1];
    return {
        height: Math.max(layout.height, 40),
        label: `Heat maps of the mean ${name} of every head, ${choice.series}, ${count(choice.seq_len)} tokens. The tables below hold the worst head of each layer.`,
        legend: [{ from: ratio(best), name: `${ratio(worst)} (the worst shown)`, mark: 'ramp', ramp: theme().heat },
                 { name: 'worst head of its panel', colour: theme().text, mark: 'frame' }],
        option: {
            ...baseOption(),
            title: layout.panels.map((panel, i) => panelTitle(`budget ${count(matrices[i].budget)}`, panel)),
            tooltip: { ...baseOption().tooltip, trigger: 'item',
                       formatter: ({ data }) => tooltipBody(`layer ${data.cell.layer}, head ${data.cell.head}`,
                           [[colour(data.cell.mean), `mean ${name}`, ratio(data.cell.mean)]],
                           [`${choice.series}; budget ${count(data.matrix.budget)} of ${count(choice.seq_len)} tokens`,
                            `n = ${data.matrix.n_min === data.matrix.n_max ? count(data.matrix.n_min) : `${count(data.matrix.n_min)} to ${count(data.matrix.n_max)}`} steps`]) },
            grid: layout.panels.map((panel) => ({ ...panel, width: size * n_heads, height: size * n_layers })),
            xAxis: matrices.map((_, gridIndex) => ({ ...look, gridIndex, type: 'value', min: 0, max: n_heads, interval: 1, name: 'head', nameLocation: 'middle', nameGap: 18,
                splitLine: { show: false }, axisTick: { show: false }, axisLine: { show: false },
                axisLabel: { ...look.axisLabel, fontSize: 10, margin: 4, customValues: ends(n_heads), formatter: (at) => String(Math.floor(at)) } })),
            yAxis: matrices.map((matrix, gridIndex) => ({ ...look, gridIndex, type: 'value', min: 0, max: n_layers, inverse: true,
                splitLine: { show: false }, axisTick: { show: false }, axisLine: { show: false },
                axisLabel: { ...look.axisLabel, fontSize: 10, margin: 4, customValues: matrix.layers.map((_layer, row) => row + 0.5), formatter: (at) => `L${matrix.layers[Math.floor(at)]}` } })),
            series: matrices.map((matrix, i) => {
                const bad = worstOf(cells[i], higherIsBetter);
                return {
                    type: 'custom', xAxisIndex: i, yAxisIndex: i, clip: false,
                    data: [...cells[i].filter((cell) => cell !== bad), ...(bad ? [bad] : [])].map((cell) => ({ value: [cell.head, cell.row, cell.mean], cell, matrix })),
                    renderItem: (_, api) => {
                        const [x, y] = api.coord([api.value(0), api.value(1)]);
                        const outlined = bad && api.value(0) === bad.head && api.value(1) === bad.row;
                        return { type: 'rect', shape: { x: x + 0.5, y: y + 0.5, width: size - 1, height: size - 1 },
                                 style: { fill: colour(api.value(2)), stroke: outlined ? theme().text : theme().line, lineWidth: outlined ? 2 : 0.5 } };
                    },
                };
            }),
        },
    };
}

const ends = (n) => (n === 1 ? [0.5] : [0.5, n - 0.5]);
