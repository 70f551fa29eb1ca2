// budget.js: what a budget loses and costs, in four panels over the same budgets: output error, recall, and on a GPU the time
// of a step against dense attention's, and the speed-up.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { compact, count, duration, durationUnit, measuredOn, ratio, times } from './format.js';
import { chosenUnits, findUnit, headlineOf } from './gpu.js';
import { errorScale, shareScale } from './quality.js';
import { lineMark, lineType, lookColour, theme } from './theme.js';

const MAX_LINES = 8;

const longestOf = (rows) => Math.max(...rows.map((row) => row.seq_len));

export function drawable(report, session) {
    const rows = report.quality.filter((row) => row.session === session && row.metric === 'output_rel_l2' && row.status === 'ok'
                                                && row.budget !== null);
    return rows.filter((row) => row.seq_len === longestOf(rows));
}

// Steps and dense attention of the GPU's chosen setting, by budget.
function timesOf(report, gpu, budgets) {
    if (gpu === null) return null;
    const units = chosenUnits(report, gpu), { seq_len } = headlineOf(report, gpu);
    const dense = findUnit(units, 'dense', seq_len, null);
    const steps = budgets.map((budget) => units.filter((unit) => unit.stage === 'step' && unit.config.seq_len === seq_len
        && unit.config.budget === budget).sort((a, b) => a.median - b.median)[0] ?? null);
    return steps.some(Boolean) ? { steps, dense, seq_len } : null;
}

function axes(panels, budgets, scales) {
    const look = axisLook();
    return {
        xAxis: panels.map((_, gridIndex) => ({ ...look, gridIndex, type: 'category', data: budgets.map(compact),
                                               name: 'budget, tokens', nameLocation: 'middle', nameGap: 26,
                                               splitLine: { show: false }, axisTick: { show: false } })),
        yAxis: panels.map((_, gridIndex) => ({ ...look, gridIndex, type: 'value', min: scales[gridIndex].min,
                                               max: scales[gridIndex].max, axisLine: { show: false }, axisTick: { show: false },
                                               ...(scales[gridIndex].ticks ? { axisTick: { show: false,
                                                   customValues: scales[gridIndex].ticks } } : { splitNumber: 4 }),
                                               axisLabel: { ...look.axisLabel, customValues: scales[gridIndex].ticks,
                                                            formatter: scales[gridIndex].tick } })),
    };
}

function tooltip(budget, rows, recalls, looks, gpu, at) {
    const step = gpu?.steps[at], notes = [];
    if (step) notes.push(`A step (${step.config.variant}) takes ${duration(step.median)} (n = ${count(step.n)}) at `
        + `${count(gpu.seq_len)} tokens`
            + (gpu.dense ? `, ${times(gpu.dense.median / step.median)} times faster than dense` : ''));
    notes.push(...measuredOn([...rows, step]));
    return tooltipBody(`budget ${count(budget)}`, [[null, '', 'error', 'worst head', 'recall'], ...rows.map((row) => [
        lookColour(looks.get(row.series)), row.series, ratio(row.median),
        row.worst_mean === null ? '\u2013' : ratio(row.worst_mean),
        recalls.get(row.series) === undefined ? '\u2013' : ratio(recalls.get(row.series))])], notes);
}

const line = (panel, look, name, data, colour = lookColour(look)) => ({
    name, type: 'line', xAxisIndex: panel, yAxisIndex: panel, symbol: look.symbol, symbolSize: 6, showAllSymbol: true,
    connectNulls: true, emphasis: { disabled: true }, data,
    lineStyle: { color: colour, width: 1.8, type: lineType(look) }, itemStyle: { color: colour } });

function gpuSeries(gpu, unit) {
    const look = { exact: false, index: 0, symbol: 'circle' }, { text: colour, stages } = theme();
    const flat = (value, panel) => ({ type: 'line', xAxisIndex: panel, yAxisIndex: panel, symbol: 'none', silent: true,
                                      lineStyle: { color: colour, width: 1.2, type: [5, 3] }, tooltip: { show: false },
                                      data: gpu.steps.map(() => value) });
    return [
        line(2, look, 'step', gpu.steps.map((step) => (step ? step.median / unit.ns : null)), stages.step),
        ...(gpu.dense ? [flat(gpu.dense.median / unit.ns, 2),
                         line(3, look, 'speed-up', gpu.steps.map((step) => (step ? gpu.dense.median / step.median : null)),
                              stages.step),
                         flat(1, 3)] : []),
    ];
}

export function drawBudget(report, looks, session, profile, width) {
    const rows = drawable(report, session), base = baseOption(), seq_len = longestOf(rows);
    const budgets = [...new Set(rows.map((row) => row.budget))].sort((a, b) => a - b);
    const names = [...looks.keys()].filter((name) => rows.some((row) => row.series === name)).slice(0, MAX_LINES);
    const recall = report.quality.filter((row) => row.session === session && row.metric === 'recall' && row.status === 'ok'
                                                  && row.seq_len === seq_len);
    const gpu = timesOf(report, profile, budgets);
    const unit = gpu ? durationUnit(Math.max(gpu.dense?.median ?? 0, ...gpu.steps.map((step) => step?.median ?? 0))) : null;
    const scales = [errorScale(rows, 'median', 'median'), shareScale(recall.length > 0 ? recall : rows, 'median'),
                    ...(gpu ? [{ min: 0, tick: (value) => `${value} ${unit.unit}` },
                           { min: 0, tick: (value) => `${value}\u00d7` }]
                            : [])];
    const titles = ['output error, median', 'recall, median', ...(gpu ? [`time of a step at ${count(gpu.seq_len)} tokens`,
                                                                        'speed-up over dense attention'] : [])];
    const { panels, height } = layPanels(titles.length, width, { minWidth: 260, height: 250, left: 52, right: 12, top: 32,
                                                                 bottom: 44, maxColumns: 4 });
    const of = (list, name) => budgets.map((budget) =>
        list.find((row) => row.series === name && row.budget === budget) ?? null);
    const series = names.flatMap((name) => [
        line(0, looks.get(name), name, of(rows, name).map((row) => (row ? scales[0].place(row.median) : null))),
        line(1, looks.get(name), name, of(recall, name).map((row) => (row ? scales[1].place(row.median) : null)))]);
    return {
        height,
        label: `Output error${gpu ? ', recall, time of a step and speed-up' : ' and recall'} against the budget, for `
             + `${names.join('; ')}. The tables below hold every figure.`,
        legend: [...names.map((name) => ({ name, colour: lookColour(looks.get(name)), mark: lineMark(looks.get(name)) })),
                 ...(gpu ? [{ name: 'a step on the GPU', colour: theme().stages.step, mark: 'line' },
                            { name: 'dense attention', colour: theme().text, mark: 'dashed' }] : [])],
        option: {
            ...base, grid: panels, ...axes(panels, budgets, scales),
            title: panels.map((panel, i) => panelTitle(titles[i], panel)),
            tooltip: { ...base.tooltip, trigger: 'axis', axisPointer: { type: 'line', label: { show: false } },
                       formatter: (hits) => {
                           const at = hits[0]?.dataIndex ?? 0;
                           const recalls = new Map(recall.filter((row) => row.budget === budgets[at])
                               .map((row) => [row.series, row.median]));
                           return tooltip(budgets[at], names.map((name) => of(rows, name)[at]).filter(Boolean), recalls, looks,
                                          gpu, at);
                       } },
            series: [...series, ...(gpu ? gpuSeries(gpu, unit) : [])],
        },
    };
}
