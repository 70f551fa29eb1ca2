// decode.js: decode steps of whole models: time per token by part, dense attention beside each budget, and what the cost model
// predicts; one panel per model, batch and page size, one place per length and budget.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { compact, count, duration, durationUnit, times } from './format.js';
import { theme } from './theme.js';

export const drawable = (report, decoding) => report.decoded.filter((row) => row.decoding === decoding && row.status === 'ok');

const PARTS = [['attention', 'attention_ns'], ['matrix products', 'linear_ns'], ['rest', 'rest_ns']];

const colourOf = (part) => (part === 0 ? theme().stages.attention : part === 1 ? theme().stages.distance : theme().stages.rest);

function panelsOf(rows) {
    const panels = new Map();
    for (const row of rows) {
        const title = `${row.model}, batch ${row.batch}${row.page_size === null ? '' : `, pages of ${row.page_size}`}`;
        if (!panels.has(title)) panels.set(title, []);
        panels.get(title).push(row);
    }
    return [...panels].map(([title, steps]) => ({ title, steps }));
}

const nameOf = (row) => `${row.budget === null ? 'dense' : compact(row.budget)}\n${compact(row.seq_len)}`;

function tooltip(panel, index) {
    const row = panel.steps[index], notes = [`p10 to p90: ${duration(row.p10)} to ${duration(row.p90)}; n = ${count(row.n)}`];
    if (row.budget !== null && row.gain !== null) notes.push(`${times(row.gain)} times as fast as dense attention`);
    if (row.predicted_ns !== null)
        notes.push(`predicted: ${duration(row.predicted_ns)}, ${(100 * (row.predicted_ns / row.median - 1)).toFixed(2)} % off`);
    return tooltipBody(
        `${panel.title}, ${count(row.seq_len)} tokens, ${row.budget === null ? 'dense' : `budget ${count(row.budget)}`}`,
        [...PARTS.map(([name, key], i) => [colourOf(i), name, row[key] === null ? '\u2013' : duration(row[key])]),
         [null, 'whole step', duration(row.median)]], notes);
}

function seriesOf(panel, index, pitch) {
    const axes = { xAxisIndex: index, yAxisIndex: index, emphasis: { disabled: true } };
    return [
        ...PARTS.map(([, key], i) => ({
            ...axes, type: 'bar', stack: String(index), barWidth: '64%', itemStyle: { color: colourOf(i) },
            data: panel.steps.map((row) => row[key]),
        })),
        { ...axes, type: 'scatter', silent: true, symbolSize: 0, // the measured time, above bar and tick
          data: panel.steps.map((row) => Math.max(row.median, row.predicted_ns ?? 0)),
          label: { show: pitch >= 34, position: 'top', distance: 4, fontSize: 9.5, color: theme().text,
                   formatter: ({ dataIndex }) => duration(panel.steps[dataIndex].median) } },
        { ...axes, type: 'scatter', z: 5, silent: true, symbol: 'rect', symbolSize: [0.64 * pitch, 2],
          itemStyle: { color: theme().text, opacity: 1 }, data: panel.steps.map((row) => row.predicted_ns) },
    ];
}

export function drawDecode(report, decoding, width) {
    const shown = panelsOf(drawable(report, decoding)), look = axisLook(), base = baseOption();
    const { panels, height } = layPanels(shown.length, width, { minWidth: 300, height: 250, left: 58, right: 12, top: 32,
                                                                bottom: 64, maxColumns: 3 });
    const pitches = shown.map((panel, i) => panels[i].width / panel.steps.length);
    const any = (key) => shown.some((panel) => panel.steps.some((row) => row[key] !== null));
    return {
        height,
        label: `Stacked bars of the time per token: ${shown.map((panel) => panel.title).join('; ')}. `
             + 'The table below holds the figures.',
        legend: [...PARTS.map(([name], i) => ({ name, colour: colourOf(i), mark: 'block' })),
                 ...(any('predicted_ns') ? [{ name: 'predicted', colour: theme().text, mark: 'tick' }] : [])],
        option: {
            ...base,
            title: panels.map((panel, i) => panelTitle(shown[i].title, panel)),
            tooltip: { ...base.tooltip, trigger: 'axis', axisPointer: { type: 'shadow' },
                       formatter: (hits) => (hits.length === 0 ? '' : tooltip(shown[hits[0].axisIndex], hits[0].dataIndex)) },
            grid: panels,
            xAxis: panels.map((_, gridIndex) => ({ ...look, gridIndex, type: 'category', splitLine: { show: false },
                                                   axisTick: { show: false }, data: shown[gridIndex].steps.map(nameOf),
                                                   axisLabel: { ...look.axisLabel, interval: 0, hideOverlap: false,
                                                                lineHeight: 13 },
                                                   name: 'budget, and tokens in the cache', nameLocation: 'middle',
                                                   nameGap: 42 })),
            yAxis: panels.map((_, gridIndex) => {
                const unit = durationUnit(Math.max(...shown[gridIndex].steps.map((row) => row.median)));
                return { ...look, gridIndex, type: 'value', min: 0, axisLine: { show: false }, axisTick: { show: false },
                         axisLabel: { ...look.axisLabel,
                                      formatter: (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}` } };
            }),
            series: shown.flatMap((panel, i) => seriesOf(panel, i, pitches[i])),
        },
    };
}
