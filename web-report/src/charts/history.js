// history.js: one series over the runs of the database: one point per run, one line per level, one mark per change point.
//
//     .  . ..   .
//     ------------|
//                 |  ..  .   .         | change point: filled towards the worse, hollow once acknowledged
//                 |------------

import { select } from '../dom.js';
import { axisLook, baseOption, tooltipBody } from './frame.js';
import { count, durationUnit, ratioTick } from './format.js';
import { theme } from './theme.js';

const nameOf = (series) =>
    [series.stage ?? series.policy, series.title, ...(series.metric === 'time_ns' ? [] : [series.metric])].join(', ');

export const drawable = (report) => report.history?.series ?? [];

export function historyControls(report, controls, changed) {
    const all = drawable(report), choice = { index: 0 };
    if (all.length > 1)
        controls.append(select('series', all.map((series, i) => [
            String(i), `${series.changes.length > 0 ? '\u25b8 ' : ''}${nameOf(series)}`]), '0', (value) => {
            choice.index = Number(value);
            changed();
        }));
    return choice;
}

// The unit of the axis: { unit, size }.
function unitOf(series, most) {
    if (series.unit === 'ns') {
        const { unit, ns } = durationUnit(most);
        return { show: (value) => `${Number((value / ns).toPrecision(4))} ${unit}` };
    }
    return { show: series.unit === 'ratio' ? ratioTick : (value) => `${Number(value.toPrecision(4))} ${series.unit}` };
}

// Levels: from change to change, [from run, to run, value].
function levelsOf(series, n_runs) {
    const changes = [...series.changes].sort((a, b) => a.run - b.run);
    const first = series.points[0][0];
    return changes.flatMap((change, i) => [
        ...(i === 0 ? [[first, change.run - 0.5, change.before]] : []),
        [change.run - 0.5, changes[i + 1] ? changes[i + 1].run - 0.5 : n_runs - 1, change.after]]);
}

function tooltip(run, point, show) {
    return tooltipBody(`run ${run.run_id}${run.label ? ` \u201c${run.label}\u201d` : ''}`,
                       [[theme().series[0], 'median', show(point[1])]],
                       [`n = ${count(point[2])}; commit ${run.commit.slice(0, 10)}${run.dirty ? ' with local changes' : ''}`,
                        run.started_utc]);
}

export function drawHistory(report, choice, width) {
    const { runs } = report.history, series = drawable(report)[choice.index];
    const base = baseOption(), look = axisLook(), colours = theme();
    const values = series.points.map((point) => point[1]), levels = levelsOf(series, runs.length);
    const low = Math.min(...values), high = Math.max(...values), room = Math.max((high - low) * 0.15, Math.abs(high) * 0.01);
    const { show } = unitOf(series, high);
    const ticks = width < 560 ? 3 : 7;
    // The runs' numbers if all are from one day.
    const isOneDay = runs[0].started_utc.slice(0, 10) === runs[runs.length - 1].started_utc.slice(0, 10);
    const dateOf = (run) => (isOneDay ? `run ${run.run_id}` : run.started_utc.slice(0, 10));
    const indices = isOneDay && runs.length <= ticks + 3 ? runs.map((_, i) => i)
        : [...new Set(Array.from({ length: ticks }, (_, i) => Math.round(i * (runs.length - 1) / (ticks - 1))))];
    return {
        height: 250,
        label: `${nameOf(series)} over ${series.points.length} runs, ${series.changes.length} change points. `
             + 'The tables below hold them.',
        legend: [{ name: `${series.shape}; ${series.metric} (${series.source})`, colour: colours.series[0], mark: 'dot' },
                 ...(levels.length > 0 ? [{ name: 'level', colour: colours.text, mark: 'line' }] : []),
                 ...(series.changes.some((change) => change.is_worse)
                     ? [{ name: 'changed for the worse', colour: colours.series[1], mark: 'dashed' }] : []),
                 ...(series.changes.some((change) => !change.is_worse)
                     ? [{ name: 'changed for the better', colour: colours.series[2], mark: 'dashed' }] : [])],
        option: {
            ...base,
            tooltip: { ...base.tooltip, trigger: 'item',
                       formatter: (hit) => (hit.data.point ? tooltip(runs[hit.data.point[0]], hit.data.point, show) : '') },
            grid: { left: 70, right: 18, top: 12, bottom: 40 },
            xAxis: { ...look, type: 'value', min: -0.5, max: runs.length - 0.5, splitLine: { show: false },
                     name: isOneDay ? `runs of ${runs[0].started_utc.slice(0, 10)}` : 'runs, by date',
                     nameLocation: 'middle', nameGap: 26, axisTick: { ...look.axisTick, customValues: indices },
                     axisLabel: { ...look.axisLabel, customValues: indices,
                                  formatter: (at) => dateOf(runs[Math.round(at)]) } },
            yAxis: { ...look, type: 'value', min: low - room, max: high + room, axisLine: { show: false },
                     axisTick: { show: false },
                     axisLabel: { ...look.axisLabel, showMinLabel: false, showMaxLabel: false, formatter: show },
                     splitLine: { ...look.splitLine, showMinLine: false, showMaxLine: false } },
            series: [
                { type: 'scatter', symbolSize: 6, z: 3, emphasis: { disabled: true },
                  itemStyle: { color: colours.series[0], opacity: 0.8 },
                  data: series.points.map((point) => ({ value: [point[0], point[1]], point })) },
                ...levels.map(([from, to, value]) => ({
                    type: 'line', symbol: 'none', silent: true, z: 4, tooltip: { show: false }, emphasis: { disabled: true },
                    lineStyle: { color: colours.text, width: 1.8 }, data: [[from, value], [to, value]] })),
                ...series.changes.map((change) => ({
                    type: 'line', symbol: 'none', silent: true, z: 2, tooltip: { show: false }, emphasis: { disabled: true },
                    lineStyle: { color: colours.series[change.is_worse ? 1 : 2], width: 1.4,
                                 type: change.verdict ? [1.5, 3] : [4, 3] },
                    data: [[change.run - 0.5, low - room], [change.run - 0.5, high + room]] })),
            ],
        },
    };
}
