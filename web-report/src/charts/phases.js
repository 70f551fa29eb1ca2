// phases.js: what the time of a step of one launch is made of: one bar per step, a segment per phase in its order.

import { axisLook, baseOption, tooltipBody } from './frame.js';
import { compact, count, duration, durationUnit, ratio } from './format.js';
import { rowsOf } from './gpu.js';
import { mix, theme } from './theme.js';

const BAR = 26, AXIS = 44, MOST_BARS = 24;

export const drawable = (report, profile) => rowsOf(report, 'phases', profile);

// The steps in the order of their rows: { config, phases, total }.
function stepsOf(rows) {
    const steps = new Map();
    for (const row of rows) {
        const key = JSON.stringify(row.config);
        if (!steps.has(key)) steps.set(key, { config: row.config, phases: [], total: 0 });
        const step = steps.get(key);
        step.phases.push(row);
        step.total += row.median;
    }
    return [...steps.values()];
}

const nameOf = ({ config }) => `${config.variant} ${config.n_q_heads}/${config.n_kv_heads}`
    + `${config.batch > 1 ? ` \u00d7${config.batch}` : ''} ${compact(config.seq_len)}, ${count(config.budget)}`;

// Neighbours differ: every second phase is from the other half of the ramp.
const colourOf = (i, n) => mix(theme().gain, 0.15 + 0.85 * ((i % 2) * 0.5 + i / (2 * n)));

function tooltip(step, names) {
    return tooltipBody(nameOf(step), step.phases.map((row) => [
        colourOf(names.indexOf(row.phase), names.length), row.phase,
        `${duration(row.median)}, ${ratio(row.median / step.total)}`]),
        [`sum of the medians: ${duration(step.total)}`,
         `${count(step.config.seq_len)} tokens, n = ${count(step.phases[0].n)}`]);
}

export function drawPhases(report, profile) {
    const steps = stepsOf(drawable(report, profile)).slice(0, MOST_BARS), base = baseOption(), look = axisLook();
    const longest = Math.max(...steps.map((step) => step.total)), unit = durationUnit(longest);
    const names = [...new Set(steps.flatMap((step) => step.phases.map((row) => row.phase)))], n = names.length;
    return {
        height: BAR * steps.length + AXIS + 10,
        label: `Stacked bars of the phases of ${steps.length} steps, the longest ${duration(longest)}. ` +
            'The table holds the figures.',
        legend: names.map((name, i) => ({ name, colour: colourOf(i, n), mark: 'block' })),
        option: {
            ...base,
            tooltip: { ...base.tooltip, trigger: 'item', formatter: (hit) => tooltip(steps[hit.dataIndex], names) },
            grid: { left: 170, right: 16, top: 6, bottom: AXIS },
            xAxis: { ...look, type: 'value', min: 0, axisTick: { show: false },
                     axisLabel: { ...look.axisLabel,
                                  formatter: (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}` } },
            yAxis: { ...look, type: 'category', inverse: true, data: steps.map(nameOf), axisTick: { show: false },
                     splitLine: { show: false }, axisLabel: { ...look.axisLabel, interval: 0 } },
            series: names.map((name, i) => ({
                type: 'bar', stack: 'step', barWidth: 14, emphasis: { disabled: true }, name,
                itemStyle: { color: colourOf(i, n), borderColor: theme().surface, borderWidth: 0.5 },
                data: steps.map((step) => step.phases.find((row) => row.phase === name)?.median ?? 0),
            })),
        },
    };
}
