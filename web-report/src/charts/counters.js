// counters.js: why the warps of each stage wait, or what they execute, as shares: one bar per stage and implementation, at one
// length and budget; and the bytes read from memory over those of the byte model.

import { select } from '../dom.js';
import { axisLook, baseOption, panelTitle, tooltipBody } from './frame.js';
import { count, ratio } from './format.js';
import { distinct, headlineOf, rowsOf } from './gpu.js';
import { ORDER } from './stage_names.js';
import { theme } from './theme.js';

const READ_RATIO = 'dram_read_model_ratio';
const ROW = 24;

// Families of shares that add up to one: stall_*_share, mix_*_share.
const FAMILIES = [['stall', 'what warps wait for'], ['mix', 'what they execute']];

const isOf = (family) => (name) => name.startsWith(`${family}_`) && name.endsWith('_share');
const shareName = (name) => name.replace(/^[a-z]+_/, '').replace(/_share$/, '').replaceAll('_', ' ');

const withShares = (rows, family) => rows.filter((row) => Object.keys(row.value).some(isOf(family)));

export const drawable = (report, profile) => {
    const rows = rowsOf(report, 'counters', profile);
    return rows.filter((row) => FAMILIES.some(([family]) => withShares([row], family).length > 0));
};

const placeOf = ({ config }) => [config.seq_len, config.n_kv_heads, config.batch, config.launch].join(' ');

export function counterControls(report, profile, controls, changed) {
    const rows = drawable(report, profile), headline = headlineOf(report, profile);
    const varies = (key) => new Set(rows.map((row) => row.config[key])).size > 1;
    const places = new Map(rows.map((row) => [placeOf(row), [
        `${count(row.config.seq_len)} tokens`, ...(varies('n_kv_heads') ? [`${row.config.n_kv_heads} KV heads`] : []),
        ...(varies('batch') ? [`batch ${row.config.batch}`] : []),
        ...(varies('launch') ? [`${row.config.launch} launches`] : []),
    ].join(', ')]));
    const budgets = distinct(rows.map((row) => row.config.budget).filter((budget) => budget !== null));
    const first = rows.find((row) => row.config.seq_len === headline.seq_len) ?? rows[0];
    const families = FAMILIES.filter(([family]) => withShares(rows, family).length > 0);
    const choice = { place: placeOf(first), budget: budgets.includes(headline.budget) ? headline.budget : budgets[0] ?? null,
                     family: families[0][0] };
    const set = (key, parse) => (value) => {
        choice[key] = parse(value);
        changed();
    };
    if (families.length > 1) controls.append(select('shares', families, choice.family, set('family', String)));
    if (places.size > 1) controls.append(select('at', [...places], choice.place, set('place', String)));
    if (budgets.length > 1)
        controls.append(select('budget', budgets.map((budget) => [String(budget), count(budget)]), String(choice.budget),
                               set('budget', Number)));
    return choice;
}

function tooltip(row, shares, colours) {
    return tooltipBody(`${row.stage} (${row.config.variant})`, shares.map((name, i) => [
        colours[i % colours.length], shareName(name),
        name in row.value ? ratio(row.value[name]) : row.missing[name] ?? 'not asked for']));
}

export function drawCounters(report, profile, choice, width) {
    const colours = theme().stalls, look = axisLook(), base = baseOption();
    const rows = withShares(rowsOf(report, 'counters', profile), choice.family)
        .filter((row) => placeOf(row) === choice.place && (row.config.budget === null || row.config.budget === choice.budget))
        .sort((a, b) => ORDER.indexOf(a.stage) - ORDER.indexOf(b.stage));
    const shares = report.metrics.map((metric) => metric.name)
        .filter((name) => isOf(choice.family)(name) && rows.some((row) => name in row.value));
    const ratios = rows.map((row) => row.value[READ_RATIO] ?? null), hasRatios = ratios.some((value) => value !== null);
    const wide = width >= 640 && hasRatios, left = 132, height = ROW * rows.length;
    const first = { left, top: 30, width: wide ? Math.round(width * 0.62) - left : width - left - 14, height };
    const second = wide ? { left: first.left + first.width + 40, top: 30, width: width - first.left - first.width - 60, height }
                        : { left, top: 30 + height + 74, width: width - left - 14, height };
    const grids = hasRatios ? [first, second] : [first];
    const most = Math.max(1.2, ...ratios.filter((value) => value !== null)) * 1.05;
    const yAxis = (gridIndex) => ({
        ...look, gridIndex, type: 'category', inverse: true, data: rows.map((row) => `${row.stage} ${row.config.variant}`),
        splitLine: { show: false }, axisTick: { show: false }, axisLine: { show: gridIndex === 1 },
        axisLabel: { ...look.axisLabel, show: gridIndex === 0 || !wide, interval: 0, width: left - 12,
                     overflow: 'truncate' } });
    const xAxis = (gridIndex, max, formatter) => ({
        ...look, gridIndex, type: 'value', min: 0, max, ...(max === 1 ? { interval: 0.25 } : { splitNumber: 3 }),
        axisLine: { show: false }, axisTick: { show: false },
        axisLabel: { ...look.axisLabel, showMaxLabel: gridIndex === 0, formatter } });
    return {
        height: grids[grids.length - 1].top + height + 34,
        label: `Stacked bars of ${choice.family} shares of ${rows.map((row) => row.stage).join(', ')}. The tables hold every `
             + 'counter.',
        legend: shares.map((name, i) => ({ name: shareName(name), colour: colours[i % colours.length], mark: 'block' })),
        option: {
            ...base,
            title: [panelTitle(FAMILIES.find(([family]) => family === choice.family)[1], first),
                    ...(hasRatios ? [panelTitle('bytes read, over the model', second)] : [])],
            tooltip: { ...base.tooltip, trigger: 'axis', axisPointer: { type: 'shadow', z: 0, shadowStyle: {
                           color: theme().grid, opacity: 0.6 } },
                       formatter: ([hit]) => (hit ? tooltip(rows[hit.dataIndex], shares, colours) : '') },
            grid: grids,
            xAxis: [xAxis(0, 1, (share) => `${Math.round(share * 100)} %`),
                    ...(hasRatios ? [xAxis(1, most, (value) => `${Number(value.toPrecision(2))}`)] : [])],
            yAxis: grids.map((_, i) => yAxis(i)),
            series: [
                ...shares.map((name, i) => ({
                    type: 'bar', stack: 'shares', xAxisIndex: 0, yAxisIndex: 0, barWidth: '66%', emphasis: { disabled: true },
                    itemStyle: { color: colours[i % colours.length] }, data: rows.map((row) => row.value[name] ?? null) })),
                ...(hasRatios ? [{ type: 'scatter', xAxisIndex: 1, yAxisIndex: 1, symbolSize: 8, emphasis: { disabled: true },
                                   itemStyle: { color: theme().text, opacity: 1 },
                                   data: ratios.map((value, i) => (value === null ? null : [value, i])).filter(Boolean),
                                   label: { show: true, position: 'right', fontSize: 10, color: theme().quiet,
                                            formatter: ({ value }) => value[0].toFixed(2) } },
                                 { type: 'line', xAxisIndex: 1, yAxisIndex: 1, symbol: 'none', silent: true,
                                   lineStyle: { color: theme().quiet, width: 1, type: [4, 3] }, tooltip: { show: false },
                                   data: [[1, 0], [1, rows.length - 1]] }] : []),
            ],
        },
    };
}
