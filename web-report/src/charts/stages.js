// stages.js: the time of one layer of one decode step, stage by stage, and of dense attention.
//
//   upper row: time, one panel per length, one bar per budget and one for dense; lower row: shares of the stages' sum
//
// Figures of different sources, batches, caches or launches never share a panel. Where a stage was timed in several
// implementations the fastest is drawn, and its name is in the tooltip.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, duration, durationUnit, measuredOn, ratioInterval, shortDuration } from './format.js';
import { STAGES } from './stage_names.js';
import { theme } from './theme.js';

export function drawable(report, session) {
    return report.stages.filter((row) => row.session === session && row.metric === 'time_ns' && row.status === 'ok');
}

// One panel per setting: { title, budgets, find(stage, budget) }. Stages that do not depend on the budget have none.
function panelsOf(rows) {
    const settings = new Map();
    for (const row of rows) {
        const key = JSON.stringify([row.source, row.seq_len, row.batch, row.cache, row.launch, row.dtype]);
        if (!settings.has(key)) settings.set(key, []);
        settings.get(key).push(row);
    }
    const varying = ['source', 'batch', 'cache', 'launch', 'dtype']
        .filter((name) => new Set(rows.map((row) => row[name])).size > 1);
    return [...settings.values()].map((members) => ({
        title: [`${count(members[0].seq_len)} tokens`,
                ...varying.map((name) => `${name} ${members[0][name] ?? 'any'}`)].join(', '),
        budgets: [...new Set(members.map((row) => row.budget))].filter((budget) => budget !== null)
            .sort((a, b) => a - b),
        find: (stage, budget) => members
            .filter((row) => row.stage === stage && (row.budget === budget || row.budget === null))
            .sort((a, b) => a.median - b.median)[0],
    }));
}

const medianOf = (panel, stage, budget) => panel.find(stage, budget)?.median ?? null;

const sumOf = (panel, budget) => STAGES.reduce((sum, stage) => sum + medianOf(panel, stage, budget), 0);

const spread = (row) => `(p10 to p90: ${duration(row.p10)} to ${duration(row.p90)}); n = ${count(row.n)}`;

function tooltip(panel, category) {
    const dense = panel.find('dense', null), colours = theme().stages;
    if (category >= panel.budgets.length) {
        if (!dense) return '';
        return tooltipBody(`dense, ${panel.title}`, [[colours.dense, dense.variant, duration(dense.median)]],
                           [`${duration(dense.median)} ${spread(dense)}`, ...measuredOn([dense])]);
    }
    const budget = panel.budgets[category], sum = sumOf(panel, budget), step = panel.find('step', budget);
    const rows = STAGES.map((stage) => [stage, panel.find(stage, budget)]).filter(([, row]) => row).reverse();
    const notes = [];
    if (step) notes.push(`whole step: ${duration(step.median)} ${spread(step)}`);
    if (step && dense)
        notes.push(`dense: ${duration(dense.median)}, ${(dense.median / step.median).toFixed(2)} times the step`,
                   ...ratioInterval(dense, step));
    notes.push(...measuredOn([...rows.map(([, row]) => row), step]));
    return tooltipBody(`budget ${count(budget)}, ${panel.title}`, rows.map(([stage, row]) => [
        colours[stage], `${stage} (${row.variant})`, duration(row.median), `${(100 * row.median / sum).toFixed(1)} %`,
        `n = ${count(row.n)}`,
    ]), notes);
}

// The time over a bar, where bars are wide enough apart for it: in three digits, or in two.
const timeLabel = (pitch) => ({
    show: pitch >= 34, position: 'top', distance: 3, fontSize: 9.5, color: theme().text,
    formatter: ({ value }) => (value > 0 ? (pitch >= 44 ? duration(value) : shortDuration(value)) : ''),
});

// Space for the label of the highest bar.
function niceMax(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return power * ([1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 1.06) ?? 15);
}

function seriesOf(panel, upper, lower, stages, pitch) {
    const bar = (stage, axis, data) => ({
        xAxisIndex: axis, yAxisIndex: axis, type: 'bar', stack: String(axis), data, barWidth: '64%',
        itemStyle: { color: theme().stages[stage] }, emphasis: { disabled: true },
    });
    return [
        ...stages.map((stage) => bar(stage, upper, panel.budgets.map((budget) => medianOf(panel, stage, budget)))),
        { ...bar('dense', upper, [...panel.budgets.map(() => null), medianOf(panel, 'dense', null)]),
          label: timeLabel(pitch) },
        ...stages.map((stage) => bar(stage, lower, panel.budgets.map((budget) => {
            const median = medianOf(panel, stage, budget);
            return median === null ? null : median / sumOf(panel, budget);
        }))),
        { xAxisIndex: upper, yAxisIndex: upper, type: 'scatter', z: 5, silent: true, emphasis: { disabled: true },
          symbol: 'rect', symbolSize: [0.64 * pitch, 2], itemStyle: { color: theme().text, opacity: 1 },
          label: timeLabel(pitch), data: panel.budgets.map((budget) => medianOf(panel, 'step', budget)) },
    ];
}

function xAxis(panel, gridIndex, isShare, pitch) {
    const look = axisLook();
    return {
        ...look, gridIndex, type: 'category', data: [...panel.budgets.map(count), isShare ? '' : 'dense'],
        splitLine: { show: false }, axisTick: { show: false },
        axisLabel: { ...look.axisLabel, interval: 0, hideOverlap: false, fontSize: pitch < 40 ? 10 : 11 },
        name: isShare ? 'budget, tokens; shares of the stages\u2019 sum' : '', nameLocation: 'middle', nameGap: 26,
    };
}

function yAxis(gridIndex, isShare, max_ns) {
    const look = axisLook(), unit = durationUnit(max_ns);
    const time = (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}`;
    return {
        ...look, gridIndex, type: 'value', min: 0, max: isShare ? 1 : max_ns, ...(isShare ? { interval: 0.5 } : {}),
        axisTick: { show: false }, axisLine: { show: false },
        axisLabel: { ...look.axisLabel, formatter: isShare ? (share) => `${share * 100} %` : time },
    };
}

export function drawStages(report, session, width) {
    const panels = panelsOf(drawable(report, session)), n = panels.length, base = baseOption(), colours = theme();
    const stages = STAGES.filter((stage) =>
        panels.some((panel) => [null, ...panel.budgets].some((budget) => panel.find(stage, budget))));
    const layout = layPanels(n, width, { minWidth: 270, height: 440, left: 50, right: 12, top: 32, bottom: 208 });
    const shares = layout.panels.map((panel) => ({ ...panel, top: panel.top + panel.height + 52, height: 112 }));
    const pitches = panels.map((panel, i) => layout.panels[i].width / (panel.budgets.length + 1));
    const max_ns = niceMax(Math.max(1, ...panels.flatMap((panel) => [
        medianOf(panel, 'dense', null),
        ...panel.budgets.flatMap((budget) => [sumOf(panel, budget), medianOf(panel, 'step', budget)])])));
    const both = (make) => [...panels.map((panel, i) => make(panel, i, false, pitches[i])),
                            ...panels.map((panel, i) => make(panel, n + i, true, pitches[i]))];
    return {
        height: layout.height,
        label: 'Stacked bars of the median time of each stage against the budget, and of dense attention: '
             + `${panels.map((panel) => panel.title).join('; ')}. The tables below hold the figures.`,
        legend: [...stages.map((stage) => ({ name: stage, colour: colours.stages[stage], mark: 'block' })),
                 { name: 'dense', colour: colours.stages.dense, mark: 'block' },
                 { name: 'whole step', colour: colours.text, mark: 'tick' }],
        option: {
            ...base,
            title: layout.panels.map((panel, i) => panelTitle(panels[i].title, panel)),
            tooltip: { ...base.tooltip, trigger: 'axis',
                       axisPointer: { type: 'shadow', z: 0, shadowStyle: { color: colours.grid, opacity: 0.6 } },
                       formatter: ([hit]) => (hit ? tooltip(panels[hit.axisIndex % n], hit.dataIndex) : '') },
            grid: [...layout.panels, ...shares],
            xAxis: both(xAxis),
            yAxis: both((_, i, isShare) => yAxis(i, isShare, max_ns)),
            series: panels.flatMap((panel, i) => seriesOf(panel, i, n + i, stages, pitches[i])),
        },
    };
}
