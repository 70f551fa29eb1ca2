// quality.js: one metric against the budget: one panel per length, one line per policy and variant.
//
//   median  ---o---o---   band: p10 to p90     hollow diamond: mean of the worst head
//
// With more than a few lines bands and diamonds would hide one another: then only those of one chosen policy are drawn.
//
// Both axes are drawn on their logarithms (x to base 2, the error to base 10), so every tick is a value that was
// measured or a power of ten.

import { select } from '../dom.js';
import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, measuredOn, ratio, ratioRange, ratioTick } from './format.js';
import { lineMark, lineType, lookColour, theme } from './theme.js';

const ascending = (a, b) => a - b;
const distinct = (values) => [...new Set(values)].sort(ascending);

// A scale of ratios up to 1, from 0 or from what lies closely below the lowest value of `lowKey`.
export function shareScale(rows, lowKey) {
    const low = Math.min(...rows.flatMap((row) => [row[lowKey], row.median, row.worst_mean ?? 1]));
    const step = low >= 0.8 ? 0.05 : low >= 0.5 ? 0.1 : 0.25, min = low >= 0.5 ? Math.floor(low / step) * step : 0;
    const n_steps = Math.max(1, Math.round((1 - min) / step));
    return { place: (value) => value, min: 1 - n_steps * step, max: 1, floor: null, tick: ratioTick,
             ticks: Array.from({ length: n_steps + 1 }, (_, i) => 1 - (n_steps - i) * step) };
}

// A scale of decades. Errors below its floor are drawn on the floor.
export function errorScale(rows, lowKey, highKey) {
    // Where the budget holds the whole context only rounding is left; it would stretch the axis to nothing.
    const sparse = rows.filter((row) => row.budget < row.seq_len);
    const values = (sparse.length > 0 ? sparse : rows).flatMap((row) => [row[lowKey], row.median, row[highKey]])
        .filter((value) => value > 0);
    const highs = rows.flatMap((row) => [row[highKey], row.worst_mean ?? 0]).filter((value) => value > 0);
    const min = Math.floor(Math.log10(Math.max(1e-4, Math.min(...values, 1))));
    const max = Math.max(min + 1, Math.log10(Math.max(...highs, 1e-4)) + 0.08);
    return { place: (value) => Math.max(min, value > 0 ? Math.log10(value) : min), min, max, floor: 10 ** min,
             ticks: Array.from({ length: Math.floor(max - min) + 1 }, (_, i) => min + i),
             tick: (power) => ratioTick(10 ** power) };
}

const scaleOf = (rows, metric) => (metric === 'output_rel_l2' ? errorScale(rows, 'p10', 'p90') : shareScale(rows, 'p10'));

// The band's fill stays faint, for bands overlap; its edges are what the eye follows.
function bandSeries(rows, scale, look, axes) {
    const colour = lookColour(look);
    const edge = (key) => rows.map((row) => [Math.log2(row.budget), scale.place(row[key])]);
    const high = edge('p90'), low = edge('p10');
    return {
        ...axes, type: 'custom', silent: true, z: 1, data: [high[0]], tooltip: { show: false },
        renderItem: (_, api) => {
            const line = (points) => ({ type: 'polyline', shape: { points: points.map((point) => api.coord(point)) },
                                        style: { fill: 'none', stroke: colour, lineWidth: 1, opacity: 0.4,
                                                 lineDash: look.exact ? [2, 3] : null } });
            const points = [...high, ...[...low].reverse()].map((point) => api.coord(point));
            return { type: 'group', children: [
                { type: 'polygon', shape: { points }, style: { fill: colour, opacity: theme().band } },
                line(high), line(low),
            ] };
        },
    };
}

function lineSeries(rows, scale, look, axes) {
    const colour = lookColour(look);
    const below = (row) => scale.floor !== null && row.median < scale.floor;
    return {
        ...axes, type: 'line', z: 3, symbol: look.symbol, symbolSize: look.exact ? 4 : 6, showAllSymbol: true,
        lineStyle: { color: colour, width: 1.8, type: lineType(look) }, itemStyle: { color: colour },
        data: rows.map((row) => ({
            value: [Math.log2(row.budget), scale.place(row.median)], row,
            ...(below(row) ? { symbol: 'triangle', symbolRotate: 180, symbolSize: 8 } : {}),
        })),
        emphasis: { disabled: true },
    };
}

// The same line as one among many.
export const faintLine = (series) => ({ ...series, z: 2, symbol: 'none', itemStyle: { color: theme().line },
                                        lineStyle: { color: theme().line, width: 1 } });

function worstSeries(rows, scale, colour, axes) {
    return {
        ...axes, type: 'scatter', z: 2, silent: true, symbol: 'diamond', symbolSize: 8, tooltip: { show: false },
        itemStyle: { color: theme().surface, borderColor: colour, borderWidth: 1.2, opacity: 1 },
        emphasis: { disabled: true },
        data: rows.filter((row) => row.worst_mean !== null && row.n !== row.worst_n)
            .map((row) => [Math.log2(row.budget), scale.place(row.worst_mean)]),
    };
}

function tooltip(looks, length, hits) {
    const rows = hits.map((hit) => hit.data?.row).filter(Boolean);
    if (rows.length === 0) return '';
    const notes = [`n = ${distinct(rows.map((row) => row.n)).map(count).join(' or ')} values of step, layer and head`,
                   ...new Set(rows.filter((row) => row.note).map((row) => `${row.note}.`))];
    notes.push(...measuredOn(rows));
    return tooltipBody(
        `${count(rows[0].budget)} of ${count(length)} tokens`,
        [[null, '', 'median', 'p10 to p90', 'worst head, mean'], ...rows.map((row) => [
            lookColour(looks.get(row.series)), row.series, ratio(row.median), ratioRange(row.p10, row.p90),
            row.worst_mean === null ? '\u2013' : `${ratio(row.worst_mean)}  L${row.worst_layer} h${row.worst_head}`,
        ])], notes);
}

export function drawable(report, session, metric) {
    return report.quality.filter((row) => row.session === session && row.metric === metric && row.status === 'ok'
                                          && row.budget !== null);
}

function xAxis(gridIndex, budgets) {
    const look = axisLook(), ticks = budgets.map(Math.log2);
    return {
        ...look, gridIndex, type: 'value', min: ticks[0] - 0.35, max: ticks[ticks.length - 1] + 0.35,
        name: 'budget, tokens', nameLocation: 'middle', nameGap: 26, splitLine: { show: false },
        axisTick: { ...look.axisTick, customValues: ticks },
        axisLabel: { ...look.axisLabel, customValues: ticks, formatter: (value) => count(Math.round(2 ** value)) },
    };
}

function yAxis(gridIndex, scale) {
    const look = axisLook();
    return {
        ...look, gridIndex, type: 'value', min: scale.min, max: scale.max, axisLine: { show: false },
        axisTick: { show: false, customValues: scale.ticks },
        axisLabel: { ...look.axisLabel, customValues: scale.ticks, formatter: scale.tick },
    };
}

// Lines whose bands can be told apart, and lines that can be told apart at all.
const MAX_BANDS = 3, MAX_LINES = 9;

// Fills the controls if there are too many lines for all bands, and returns the choice { band }: the one policy whose band
// is drawn, or null for all.
export function bandControls(names, words, controls, changed) {
    if (names.length <= MAX_BANDS) return { band: null };
    const choice = { band: names.find((name) => name.startsWith('adamas')) ?? names[0] };
    controls.append(select(words, names.map((name) => [name, name]), choice.band, (value) => {
        choice.band = value;
        changed();
    }));
    return choice;
}

export const qualityControls = (report, session, metric, controls, changed) =>
    bandControls([...new Set(drawable(report, session, metric).map((row) => row.series))], 'spread and worst head of',
                 controls, changed);

// Beyond so many names, those that are neither exact nor chosen are drawn in grey, without marks.
export const isFaint = (name, names, looks, choice) =>
    names.length > MAX_LINES && !looks.get(name).exact && name !== choice.band;

export function legendNames(names, looks, choice) {
    const faint = names.filter((name) => isFaint(name, names, looks, choice));
    return [...names.filter((name) => !faint.includes(name))
        .map((name) => ({ name, colour: lookColour(looks.get(name)), mark: lineMark(looks.get(name)) })),
            ...(faint.length > 0 ? [{ name: `${faint.length} others`, colour: theme().line, mark: 'line' }] : [])];
}

function legendOf(rows, names, looks, choice, scale) {
    const quiet = theme().quiet;
    const isBelow = scale.floor !== null && rows.some((row) => row.median < scale.floor);
    return [
        ...legendNames(names, looks, choice),
        { name: 'p10 to p90', colour: quiet, mark: 'band' },
        { name: 'mean of the worst head', colour: quiet, mark: 'hollow' },
        ...(isBelow ? [{ name: `below ${ratioTick(scale.floor)}`, colour: quiet, mark: 'below' }] : []),
    ];
}

export function drawQuality(report, looks, session, metric, choice, width) {
    const rows = drawable(report, session, metric), base = baseOption();
    const lengths = distinct(rows.map((row) => row.seq_len)), budgets = distinct(rows.map((row) => row.budget));
    const names = [...looks.keys()].filter((name) => rows.some((row) => row.series === name));
    const scale = scaleOf(rows, metric);
    const { panels, height } = layPanels(lengths.length, width, { minWidth: 270, height: 258, left: 50, right: 12,
                                                                  top: 32, bottom: 44 });
    const series = lengths.flatMap((length, panel) => names.flatMap((name) => {
        const line = rows.filter((row) => row.seq_len === length && row.series === name)
            .sort((a, b) => a.budget - b.budget);
        if (line.length === 0) return [];
        const axes = { xAxisIndex: panel, yAxisIndex: panel }, look = looks.get(name);
        if (isFaint(name, names, looks, choice)) return [faintLine(lineSeries(line, scale, look, axes))];
        if (choice.band !== null && choice.band !== name) return [lineSeries(line, scale, look, axes)];
        return [bandSeries(line, scale, look, axes), lineSeries(line, scale, look, axes),
                worstSeries(line, scale, lookColour(look), axes)];
    }));
    return {
        height,
        label: `Line charts of ${metric} against the budget at ${lengths.map(count).join(', ')} tokens of context, for `
             + `${names.join('; ')}. The tables below hold the figures.`,
        legend: legendOf(rows, names, looks, choice, scale),
        option: {
            ...base,
            title: panels.map((panel, i) => panelTitle(`${count(lengths[i])} tokens`, panel)),
            tooltip: { ...base.tooltip, trigger: 'axis',
                       axisPointer: { type: 'line', snap: true, label: { show: false },
                                      lineStyle: { color: theme().line, type: 'solid' } },
                       formatter: (hits) => tooltip(looks, lengths[hits[0]?.axisIndex], hits) },
            grid: panels,
            xAxis: panels.map((_, i) => xAxis(i, budgets)),
            yAxis: panels.map((_, i) => yAxis(i, scale)),
            series,
        },
    };
}
