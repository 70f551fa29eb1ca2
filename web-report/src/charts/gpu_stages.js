// gpu_stages.js: the six stages of a step against the fused step: one panel per length, two bars per budget.
//
//     |  6.2x  |       left: each stage timed alone, stacked, and what `six` takes beyond their sum
//     | ▒▒     |       right: the step in one launch, by its fastest variant
//     | ██  ▓▓ |
//     +--256---+
//
// Of a stage's implementations, the one that `six` runs is drawn: the first in the registry, and so in the document.

import { axisLook, baseOption, layPanels, panelTitle, tooltipBody } from './frame.js';
import { compact, count, duration, durationUnit, measuredOn, ratioInterval, times } from './format.js';
import { chosenUnits, distinct, findUnit } from './gpu.js';
import { STAGES } from './stage_names.js';
import { theme } from './theme.js';

const PER_BUDGET = 'step';

const spread = (unit) => `${duration(unit.median)} (p10 to p90: ${duration(unit.p10)} to ${duration(unit.p90)}; `
                       + `n = ${count(unit.n)})`;

// One panel per length: what each of its bars is made of.
function panelsOf(units) {
    return distinct(units.filter((unit) => unit.stage === PER_BUDGET).map((unit) => unit.config.seq_len)).map((length) => {
        const here = units.filter((unit) => unit.config.seq_len === length && !/ (xor|dot|asym4)$/.test(unit.config.variant));
        const budgets = distinct(here.filter((unit) => unit.stage === PER_BUDGET).map((unit) => unit.config.budget));
        const dense = findUnit(here, 'dense', length, null);
        const bars = budgets.map((budget) => {
            const parts = new Map(STAGES.map((stage) => [stage, here.find((unit) =>
                unit.stage === stage && (unit.config.budget === null || unit.config.budget === budget))]));
            const sum = [...parts.values()].reduce((total, unit) => total + (unit?.median ?? 0), 0);
            const six = findUnit(here, PER_BUDGET, length, budget, 'six');
            const fused = here.filter((unit) => unit.stage === PER_BUDGET && unit.config.budget === budget
                                                && unit.config.variant !== 'six').sort((a, b) => a.median - b.median)[0];
            const best = [six, fused].filter(Boolean).sort((a, b) => a.median - b.median)[0];
            return { budget, parts, sum, six, fused, best, gain: dense && best ? dense.median / best.median : null,
                     rest: six ? Math.max(0, six.median - sum) : 0 };
        });
        return { length, dense, bars };
    });
}

function tooltip(panel, bar) {
    const colours = theme().stages;
    const rows = [...bar.parts].filter(([, unit]) => unit).reverse()
        .map(([stage, unit]) => [colours[stage], `${stage} (${unit.config.variant})`, duration(unit.median)]);
    if (bar.rest > 0) rows.unshift([colours.rest, 'beyond the stages\u2019 sum', duration(bar.rest)]);
    const notes = [];
    if (bar.six) notes.push(`six: ${spread(bar.six)}`);
    if (bar.fused) notes.push(`${bar.fused.config.variant}: ${spread(bar.fused)}`);
    const gain = bar.gain ? `, ${times(bar.gain)} times the faster step` : '';
    if (panel.dense) notes.push(`dense (${panel.dense.config.variant}): ${spread(panel.dense)}${gain}`);
    if (bar.gain) notes.push(...ratioInterval(panel.dense, bar.best).map((interval) => `gain: ${interval}`));
    notes.push(...measuredOn([...[...bar.parts].map(([, unit]) => unit), bar.six, bar.fused, panel.dense]));
    return tooltipBody(`budget ${count(bar.budget)} of ${count(panel.length)} tokens`, rows, notes);
}

function niceMax(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return power * ([1, 1.2, 1.6, 2, 2.4, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 1.12) ?? 12);
}

function seriesOf(panel, axis, pitch) {
    const colours = theme().stages;
    const bar = (name, stack, data) => ({
        xAxisIndex: axis, yAxisIndex: axis, type: 'bar', stack: `${stack}${axis}`, data, barWidth: '36%', barGap: '8%',
        itemStyle: { color: colours[name] }, emphasis: { disabled: true },
    });
    const label = { show: pitch >= 26, position: 'top', distance: 2, fontSize: 9.5, color: theme().text,
                    formatter: ({ dataIndex }) => {
                        const { gain } = panel.bars[dataIndex];
                        return gain === null ? '' : `${gain < 9.95 ? gain.toFixed(1) : gain.toFixed(0)}\u00d7`;
                    } };
    return [
        ...STAGES.map((stage) => bar(stage, 'six', panel.bars.map(({ parts }) => parts.get(stage)?.median ?? null))),
        bar('rest', 'six', panel.bars.map(({ rest }) => (rest > 0 ? rest : null))),
        bar('step', 'fused', panel.bars.map(({ fused }) => fused?.median ?? null)),
        { xAxisIndex: axis, yAxisIndex: axis, type: 'scatter', silent: true, symbolSize: 0, z: 6, label,
          data: panel.bars.map(({ six, sum, fused }) => Math.max(six?.median ?? 0, sum, fused?.median ?? 0)) },
    ];
}

export const drawable = (report, profile) =>
    report.units.some((unit) => unit.profile === profile && unit.stage === PER_BUDGET && unit.status === 'ok');

export function drawGpuStages(report, profile, width) {
    const panels = panelsOf(chosenUnits(report, profile)), base = baseOption(), colours = theme();
    const layout = layPanels(panels.length, width, { minWidth: 270, height: 270, left: 52, right: 10, top: 34, bottom: 44 });
    const stages = STAGES.filter((stage) => panels.some((panel) => panel.bars.some(({ parts }) => parts.get(stage))));
    const look = axisLook();
    const maxima = panels.map((panel) => niceMax(Math.max(1, ...panel.bars.flatMap(({ six, sum, fused }) =>
        [six?.median ?? 0, sum, fused?.median ?? 0]))));
    return {
        height: Math.max(layout.height, 40),
        label: 'Bars of the median time of the six stages and of the step in one launch against the budget, at '
            + `${panels.map((panel) => count(panel.length)).join(', ')} tokens. The tables hold the figures.`,
        legend: [...stages.map((stage) => ({ name: stage, colour: colours.stages[stage], mark: 'block' })),
                 { name: 'beyond the stages\u2019 sum', colour: colours.stages.rest, mark: 'block' },
                 { name: 'step in one launch', colour: colours.stages.step, mark: 'block' },
                 { name: '\u00d7: gain of the faster over dense', colour: colours.text, mark: 'none' }],
        option: {
            ...base,
            title: layout.panels.map((panel, i) => panelTitle(`${count(panels[i].length)} tokens${panels[i].dense
                ? `; dense ${duration(panels[i].dense.median)}` : ''}`, panel)),
            tooltip: { ...base.tooltip, trigger: 'axis',
                       axisPointer: { type: 'shadow', z: 0, shadowStyle: { color: colours.grid, opacity: 0.6 } },
                       formatter: ([hit]) => (hit ? tooltip(panels[hit.axisIndex], panels[hit.axisIndex].bars[hit.dataIndex])
                                                  : '') },
            grid: layout.panels,
            xAxis: panels.map((panel, gridIndex) => ({
                ...look, gridIndex, type: 'category', data: panel.bars.map(({ budget }) => compact(budget)),
                splitLine: { show: false }, axisTick: { show: false },
                axisLabel: { ...look.axisLabel, interval: 0, fontSize: 10.5, hideOverlap: true },
                name: 'budget, tokens', nameLocation: 'middle', nameGap: 24 })),
            yAxis: panels.map((_, gridIndex) => {
                const unit = durationUnit(maxima[gridIndex]);
                return { ...look, gridIndex, type: 'value', min: 0, max: maxima[gridIndex], axisTick: { show: false },
                         axisLine: { show: false }, interval: maxima[gridIndex] / 4,
                         axisLabel: { ...look.axisLabel,
                                      formatter: (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}` } };
            }),
            series: panels.flatMap((panel, i) => seriesOf(panel, i, layout.panels[i].width / panel.bars.length)),
        },
    };
}
