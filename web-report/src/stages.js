// stages.js: the time of one layer of one decode step, stage by stage, beside dense attention.
//
//   upper row: time, one panel a length, one bar a budget and one for dense; lower row: shares of the stages' sum
//
// Figures of different sources, batches, caches or launches never share a panel. Where a stage was timed in several
// implementations the fastest is drawn, and its name stands in the tooltip.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { count, duration, durationUnit, shortDuration } from './format.js';
import { theme } from './theme.js';

const STAGES = ['hadamard', 'bucket', 'pack', 'append', 'distance', 'topk', 'attention'];

export function drawable(report, session) {
    return report.stages.filter((row) => row.session === session && row.metric === 'time_ns' && row.status === 'ok');
}

// One panel a setting: { title, budgets, find(stage, budget) }.
function panelsOf(rows) {
    const settings = new Map();
    const key = (row) => JSON.stringify([row.source, row.seq_len, row.batch, row.cache, row.launch, row.dtype]);
    for (const row of rows) {
        if (!settings.has(key(row))) settings.set(key(row), []);
        settings.get(key(row)).push(row);
    }
    const varies = (name) => new Set(rows.map((row) => row[name])).size > 1;
    return [...settings.values()].map((members) => {
        const first = members[0];
        const extra = ['source', 'batch', 'cache', 'launch', 'dtype'].filter(varies).map((name) => `${name} ${first[name] ?? 'any'}`);
        return {
            title: [`${count(first.seq_len)} tokens`, ...extra].join(', '),
            budgets: [...new Set(members.map((row) => row.budget).filter((budget) => budget !== null))].sort((a, b) => a - b),
            find: (stage, budget) => members
                .filter((row) => row.stage === stage && (row.budget === budget || row.budget === null))
                .sort((a, b) => a.median - b.median)[0],
        };
    });
}

const sumOf = (panel, budget) =>
    STAGES.reduce((sum, stage) => sum + (panel.find(stage, budget)?.median ?? 0), 0);

function tooltip(panel, category) {
    const dense = panel.find('dense', null);
    if (category >= panel.budgets.length) {
        if (!dense) return '';
        return tooltipBody(`dense, ${panel.title}`, [[theme().stages.dense, dense.variant, duration(dense.median)]],
                           [`p10 to p90: ${duration(dense.p10)} to ${duration(dense.p90)}; n = ${count(dense.n)}`]);
    }
    const budget = panel.budgets[category], sum = sumOf(panel, budget), step = panel.find('step', budget);
    const rows = STAGES.map((stage) => [stage, panel.find(stage, budget)]).filter(([, row]) => row)
        .map(([stage, row]) => [theme().stages[stage], `${stage} (${row.variant})`, duration(row.median),
                                `${(100 * row.median / sum).toFixed(1)} %`]).reverse();
    const notes = [];
    if (step) notes.push(`whole step: ${duration(step.median)} (p10 to p90: ${duration(step.p10)} to ${duration(step.p90)}); n = ${count(step.n)}`);
    if (step && dense) notes.push(`dense: ${duration(dense.median)}, ${(dense.median / step.median).toFixed(2)} times the step`);
    return tooltipBody(`budget ${count(budget)}, ${panel.title}`, rows, notes);
}

// The time over a bar, where bars are wide enough apart for it: in three digits, or in two.
const timeLabel = (pitch) => ({
    show: pitch >= 34, position: 'top', distance: 3, fontSize: 9.5, color: theme().text,
    formatter: ({ value }) => (value > 0 ? (pitch >= 44 ? duration(value) : shortDuration(value)) : ''),
});

function niceMax(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 1.06) ?? 20 * power;
}

export function drawStages(report, session, width) {
    const panels = panelsOf(drawable(report, session)), n = panels.length;
    const colours = theme().stages, look = axisLook();
    const stages = STAGES.filter((stage) => panels.some((panel) => [null, ...panel.budgets].some((budget) => panel.find(stage, budget))));
    const layout = layPanels(n, width, { minWidth: 270, height: 440, left: 50, right: 12, top: 32, bottom: 208 });
    const grids = [...layout.panels, ...layout.panels.map((panel) => ({ ...panel, top: panel.top + panel.height + 52, height: 112 }))];
    const max_ns = niceMax(Math.max(1, ...panels.flatMap((panel) => [
        panel.find('dense', null)?.median ?? 0,
        ...panel.budgets.flatMap((budget) => [sumOf(panel, budget), panel.find('step', budget)?.median ?? 0])])));
    const unit = durationUnit(max_ns);
    const pitch = (i) => layout.panels[i].width / (panels[i].budgets.length + 1);
    const series = panels.flatMap((panel, i) => {
        const upper = { xAxisIndex: i, yAxisIndex: i }, lower = { xAxisIndex: n + i, yAxisIndex: n + i };
        const bar = (stage, axes, data) => ({ ...axes, type: 'bar', stack: String(axes.xAxisIndex), data,
            barWidth: '64%', itemStyle: { color: colours[stage] }, emphasis: { disabled: true } });
        return [
            ...stages.map((stage) => bar(stage, upper, panel.budgets.map((budget) => panel.find(stage, budget)?.median ?? null))),
            { ...bar('dense', upper, [...panel.budgets.map(() => null), panel.find('dense', null)?.median ?? null]), label: timeLabel(pitch(i)) },
            ...stages.map((stage) => bar(stage, lower, panel.budgets.map((budget) => {
                const row = panel.find(stage, budget);
                return row ? row.median / sumOf(panel, budget) : null;
            }))),
            { ...upper, type: 'scatter', symbol: 'rect', symbolSize: [0.64 * pitch(i), 2], itemStyle: { color: theme().text }, z: 5,
              silent: true, emphasis: { disabled: true }, label: timeLabel(pitch(i)),
              data: panel.budgets.map((budget) => panel.find('step', budget)?.median ?? null) },
        ];
    });
    const categories = (i) => [...panels[i % n].budgets.map(count), ...(i < n ? ['dense'] : [''])];
    return {
        height: layout.height,
        label: `Stacked bars of the median time of each stage against the budget, beside dense attention: ${panels.map((panel) => panel.title).join('; ')}. `
             + 'The tables below hold the figures.',
        legend: [...stages.map((stage) => ({ name: stage, colour: colours[stage], mark: 'block' })),
                 { name: 'dense', colour: colours.dense, mark: 'block' },
                 { name: 'whole step', colour: theme().text, mark: 'tick' }],
        option: {
            ...baseOption(),
            title: layout.panels.map((panel, i) => panelTitle(panels[i].title, panel)),
            tooltip: { ...baseOption().tooltip, trigger: 'axis', axisPointer: { type: 'shadow', shadowStyle: { color: theme().grid, opacity: 0.6 } },
                       formatter: (hits) => tooltip(panels[hits[0].axisIndex % n], hits[0].dataIndex) },
            grid: grids.map((grid) => ({ ...grid, containLabel: false })),
            xAxis: grids.map((_, i) => ({
                ...look, gridIndex: i, type: 'category', data: categories(i), splitLine: { show: false }, axisTick: { show: false },
                axisLabel: { ...look.axisLabel, interval: 0, hideOverlap: false, fontSize: pitch(i % n) < 40 ? 10 : 11 },
                ...(i >= n ? { name: 'budget, tokens; shares of the stages\u2019 sum', nameLocation: 'middle', nameGap: 26 } : {}),
            })),
            yAxis: grids.map((_, i) => ({
                ...look, gridIndex: i, type: 'value', min: 0, axisTick: { show: false }, axisLine: { show: false },
                ...(i < n ? { max: max_ns, axisLabel: { ...look.axisLabel, formatter: (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}` } }
                          : { max: 1, interval: 0.5, axisLabel: { ...look.axisLabel, formatter: (share) => `${share * 100} %` } }),
            })),
            series,
        },
    };
}
