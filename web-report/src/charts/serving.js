// serving.js: simulated serving: latencies, throughput, and where a replay has it the output error, one panel each, one
// place per case.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { compact, count, duration, ratio } from './format.js';
import { theme } from './theme.js';

export const drawable = (report, serving) => report.served.filter((row) => row.serving === serving);

const QUANTILES = ['p50', 'p95', 'p99'];

const nameOf = (row, rows) => {
    const name = row.budget !== null ? compact(row.budget) : row.layer_budgets ? 'by layer' : 'dense';
    return rows.some((other) => other.memory !== row.memory) ? `${name}\n${row.memory}` : name;
};

// Each panel: title, the value of a row at a quantile, how it is written, and which quantiles it has.
function panelsOf(rows) {
    const metric = (name) => (row, quantile) => row.metric[name]?.[quantile] ?? null;
    const error = (row, quantile) => row.quality.output_rel_l2?.[quantile] ?? null;
    return [
        { title: 'Time to the first token', value: metric('ttft_ns'), show: duration, quantiles: QUANTILES, log: true },
        { title: 'Time per token after it', value: metric('tpot_ns'), show: duration, quantiles: QUANTILES, log: true },
        { title: 'Answer tokens per second', value: metric('output_tokens_per_s'), show: (x) => count(Math.round(x)),
          quantiles: ['p50'], log: false },
        { title: 'Output error of a replay', value: error, show: ratio, quantiles: ['p50'], log: false },
    ].filter((panel) => rows.some((row) => panel.value(row, 'p50') !== null));
}

function tooltip(rows, panel, index) {
    const row = rows[index], name = nameOf(row, rows).replace('\n', ', ');
    return tooltipBody(`${row.budget === null ? '' : 'budget '}${name}`,
                       panel.quantiles.map((quantile, i) => [theme().series[i],
                                                             panel.quantiles.length > 1 ? quantile : panel.title,
                                                             panel.value(row, quantile) === null ? '\u2013'
                                                                 : panel.show(panel.value(row, quantile))]));
}

function seriesOf(rows, panel, index) {
    const axes = { xAxisIndex: index, yAxisIndex: index, emphasis: { disabled: true } };
    return panel.quantiles.map((quantile, i) => {
        const data = rows.map((row) => panel.value(row, quantile));
        return panel.quantiles.length === 1
            ? { ...axes, type: 'bar', barMaxWidth: 26, itemStyle: { color: theme().series[0] }, data }
            : { ...axes, type: 'line', symbol: ['circle', 'rect', 'triangle'][i], symbolSize: 7, showAllSymbol: true, data,
                lineStyle: { color: theme().series[i], width: 1.6 }, itemStyle: { color: theme().series[i] } };
    });
}

export function drawServing(report, serving, width) {
    const rows = drawable(report, serving), shown = panelsOf(rows), look = axisLook(), base = baseOption();
    const { panels, height } = layPanels(shown.length, width, { minWidth: 260, height: 240, left: 62, right: 12, top: 32,
                                                                bottom: 52, maxColumns: 2 });
    return {
        height,
        label: `Charts of ${shown.map((panel) => panel.title.toLowerCase()).join(', ')} for ${rows.length} cases. `
             + 'The table below holds the figures.',
        legend: QUANTILES.map((name, i) => ({ name, colour: theme().series[i], mark: 'line' })),
        option: {
            ...base,
            title: panels.map((panel, i) => panelTitle(shown[i].title, panel)),
            tooltip: { ...base.tooltip, trigger: 'axis', axisPointer: { type: 'shadow' },
                       formatter: (hits) => (hits.length === 0 ? ''
                           : tooltip(rows, shown[hits[0].axisIndex], hits[0].dataIndex)) },
            grid: panels,
            xAxis: panels.map((_, gridIndex) => ({ ...look, gridIndex, type: 'category', splitLine: { show: false },
                                                   data: rows.map((row) => nameOf(row, rows)),
                                                   axisLabel: { ...look.axisLabel, lineHeight: 13 }, name: 'budget, tokens',
                                                   nameLocation: 'middle', nameGap: 34 })),
            yAxis: panels.map((_, gridIndex) => ({
                ...look, gridIndex, type: shown[gridIndex].log ? 'log' : 'value', axisLine: { show: false },
                axisTick: { show: false }, axisLabel: { ...look.axisLabel, formatter: shown[gridIndex].show } })),
            series: shown.flatMap((panel, i) => seriesOf(rows, panel, i)),
        },
    };
}
