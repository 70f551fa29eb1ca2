// tasks.js: what a budget costs the model: one figure against the budget, one line per policy, with its 95% interval as a band.
// One panel per text: the pooled one first. With more than a few lines only the band of one chosen policy is drawn.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, ratio, ratioTick } from './format.js';
import { distinct } from './gpu.js';
import { bandControls, faintLine, isFaint, legendNames } from './quality.js';
import { lineType, lookColour, theme } from './theme.js';

const bounds = (row, metric) => [row.value[`${metric}_ci95_low`] ?? row.value[metric],
                                 row.value[`${metric}_ci95_high`] ?? row.value[metric]];

export const drawable = (report, evaluation, metric) => report.tasks.filter((row) =>
    row.evaluation === evaluation && row.budget !== null && metric in row.value);

// Ratios around 1 on a logarithmic axis; shares from 0 to 1.
function scaleOf(rows, metric) {
    if (metric !== 'perplexity_ratio')
        return { place: (value) => value, min: 0, max: 1, ticks: [0, 0.25, 0.5, 0.75, 1], tick: ratioTick, show: ratio,
                 mark: null };
    const values = rows.flatMap((row) => [row.value[metric], ...bounds(row, metric)]).filter((value) => value > 0);
    const min = Math.min(0.98, ...values), max = Math.max(1.05, ...values);
    const all = [0.5, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000];
    // So few that they do not touch.
    const room = (Math.log(max) - Math.log(min)) / 8, ticks = [];
    for (const tick of all.filter((value) => value >= min && value <= max))
        if (tick === 1 || ticks.length === 0 || Math.log(tick) - ticks[ticks.length - 1] >= room) {
            if (tick === 1 && ticks.length > 0 && -ticks[ticks.length - 1] < room) ticks.pop();
            ticks.push(Math.log(tick));
        }
    return { place: Math.log, min: Math.log(min) - 0.01, max: Math.log(max) + 0.01, ticks, mark: 0,
             tick: (power) => String(Number(Math.exp(power).toPrecision(3))), show: (value) => value.toFixed(3) };
}

function bandSeries(rows, scale, metric, look, axes) {
    const colour = lookColour(look);
    const at = (i) => rows.map((row) => [Math.log2(row.budget), scale.place(bounds(row, metric)[i])]);
    const points = [...at(1), ...at(0).reverse()];
    return {
        ...axes, type: 'custom', silent: true, z: 1, data: [points[0]], tooltip: { show: false },
        renderItem: (_, api) => ({ type: 'polygon', shape: { points: points.map((point) => api.coord(point)) },
                                   style: { fill: colour, opacity: 2 * theme().band } }),
    };
}

function lineSeries(rows, scale, metric, look, axes) {
    const colour = lookColour(look);
    return {
        ...axes, type: 'line', z: 3, symbol: look.symbol, symbolSize: look.exact ? 4 : 6, showAllSymbol: true,
        lineStyle: { color: colour, width: 1.8, type: lineType(look) }, itemStyle: { color: colour },
        emphasis: { disabled: true },
        data: rows.map((row) => ({ value: [Math.log2(row.budget), scale.place(row.value[metric])], row })),
    };
}

function tooltip(looks, metric, scale, hits) {
    const rows = hits.map((hit) => hit.data?.row).filter(Boolean);
    if (rows.length === 0) return '';
    const counted = metric === 'perplexity_ratio' ? 'nll' : metric;
    return tooltipBody(`budget ${count(rows[0].budget)} of ${count(rows[0].seq_len)} tokens`,
                       [[null, '', '', '95% interval'], ...rows.map((row) => [
                           lookColour(looks.get(row.series)), row.series, scale.show(row.value[metric]),
                           bounds(row, metric).map(scale.show).join(' to ')])],
                       [`n = ${distinct(rows.map((row) => row.n[counted] ?? 1)).map(count).join(' or ')} ${
                           counted === 'nll' ? 'tokens' : 'passkeys'}`]);
}

export const taskControls = (report, evaluation, metric, controls, changed) =>
    bandControls([...new Set(drawable(report, evaluation, metric).map((row) => row.series))], 'interval of', controls, changed);

export function drawTasks(report, looks, evaluation, metric, choice, width) {
    const rows = drawable(report, evaluation, metric), base = baseOption(), look = axisLook();
    const texts = [...new Set(rows.map((row) => row.trace))], names = [...looks.keys()]
        .filter((name) => rows.some((row) => row.series === name));
    const budgets = distinct(rows.map((row) => row.budget)), ticks = budgets.map(Math.log2), scale = scaleOf(rows, metric);
    const { panels, height } = layPanels(texts.length, width, { minWidth: 250, height: 250, left: 50, right: 12, top: 32,
                                                                bottom: 44 });
    return {
        height,
        label: `Line charts of ${metric} against the budget for ${names.join('; ')} on ${texts.join(', ')}. `
             + 'The tables below hold the figures.',
        legend: [...legendNames(names, looks, choice),
                 { name: '95% interval', colour: theme().quiet, mark: 'band' },
                 ...(scale.mark === null ? [] : [{ name: 'dense attention', colour: theme().text, mark: 'dashed' }])],
        option: {
            ...base,
            title: panels.map((panel, i) => panelTitle(texts[i], panel)),
            tooltip: { ...base.tooltip, trigger: 'axis',
                       axisPointer: { type: 'line', snap: true, label: { show: false },
                                      lineStyle: { color: theme().line, type: 'solid' } },
                       formatter: (hits) => tooltip(looks, metric, scale, hits) },
            grid: panels,
            xAxis: panels.map((_, gridIndex) => ({
                ...look, gridIndex, type: 'value', min: ticks[0] - 0.35, max: ticks[ticks.length - 1] + 0.35,
                splitLine: { show: false }, axisTick: { ...look.axisTick, customValues: ticks },
                axisLabel: { ...look.axisLabel, customValues: ticks, formatter: (power) => count(Math.round(2 ** power)) },
                name: 'budget, tokens', nameLocation: 'middle', nameGap: 26 })),
            yAxis: panels.map((_, gridIndex) => ({
                ...look, gridIndex, type: 'value', min: scale.min, max: scale.max, axisLine: { show: false },
                axisTick: { show: false, customValues: scale.ticks },
                axisLabel: { ...look.axisLabel, customValues: scale.ticks, formatter: scale.tick } })),
            series: texts.flatMap((text, panel) => [
                ...names.flatMap((name) => {
                    const line = rows.filter((row) => row.trace === text && row.series === name)
                        .sort((a, b) => a.budget - b.budget);
                    const axes = { xAxisIndex: panel, yAxisIndex: panel };
                    if (line.length === 0) return [];
                    const drawn = lineSeries(line, scale, metric, looks.get(name), axes);
                    if (isFaint(name, names, looks, choice)) return [faintLine(drawn)];
                    const hasBand = choice.band === null || choice.band === name;
                    return [...(hasBand ? [bandSeries(line, scale, metric, looks.get(name), axes)] : []), drawn];
                }),
                ...(scale.mark === null ? [] : [{
                    type: 'line', xAxisIndex: panel, yAxisIndex: panel, symbol: 'none', silent: true, z: 2,
                    tooltip: { show: false }, emphasis: { disabled: true },
                    lineStyle: { color: theme().text, width: 1.2, type: [4, 3] },
                    data: [[ticks[0] - 0.35, scale.mark], [ticks[ticks.length - 1] + 0.35, scale.mark]] }]),
            ]),
        },
    };
}
