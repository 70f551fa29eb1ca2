// tuning.js: a tuning session: the time of every candidate in the order in which they were judged, with the floor.

import { axisLook, baseOption, layPanels, tooltipBody } from './frame.js';
import { duration } from './format.js';
import { theme } from './theme.js';

export const drawable = (report, tuning) => report.candidates.filter((row) => row.tuning === tuning);

function tooltip(rows, index) {
    const row = rows[index];
    if (row === undefined) return '';
    return tooltipBody(row.name, [[theme().series[0], 'median', row.median_ns === null ? '\u2013' : duration(row.median_ns)]],
                       [row.reason ?? `${row.verdict}, n = ${row.n}`]);
}

export function drawTuning(report, tuning, width) {
    const rows = drawable(report, tuning), look = axisLook(), base = baseOption();
    const floor = rows.find((row) => row.floor_ns !== null), isTight = (width - 78) / rows.length < 96;
    const { panels, height } = layPanels(1, width, { minWidth: 260, height: 260, left: 66, right: 12, top: 16,
                                                     bottom: isTight ? 64 : 30 });
    const own = (row) => row.kind !== 'row';
    return {
        height,
        label: `Chart of the times of ${rows.length} candidates in the order in which they were judged. `
             + 'The table below holds the figures.',
        legend: [{ name: 'candidate', colour: theme().series[0], mark: 'dot' },
                 { name: 'row of the registry', colour: theme().quiet, mark: 'dot' },
                 ...(floor ? [{ name: 'floor', colour: theme().text, mark: 'dashed' }] : [])],
        option: {
            ...base,
            tooltip: { ...base.tooltip, trigger: 'axis', axisPointer: { type: 'shadow' },
                       formatter: (hits) => (hits.length === 0 ? '' : tooltip(rows, hits[0].dataIndex)) },
            grid: panels,
            xAxis: [{ ...look, type: 'category', splitLine: { show: false }, data: rows.map((row) => row.name),
                      axisLabel: { ...look.axisLabel, interval: 0, hideOverlap: rows.length > 24, rotate: isTight ? 35 : 0,
                                   width: isTight ? 84 : 110, overflow: 'truncate' } }],
            yAxis: [{ ...look, type: 'log', axisLine: { show: false }, axisTick: { show: false },
                      axisLabel: { ...look.axisLabel, formatter: duration } }],
            series: [
                { type: 'line', symbol: 'circle', symbolSize: 8, showAllSymbol: true, connectNulls: false,
                  emphasis: { disabled: true }, lineStyle: { color: theme().grid, width: 1.4 },
                  label: { show: rows.length <= 12, position: 'top', fontSize: 10.5, color: theme().text,
                           formatter: ({ value }) => (value == null ? '' : duration(value)) },
                  data: rows.map((row) => ({ value: row.median_ns,
                                             itemStyle: { color: own(row) ? theme().series[0] : theme().quiet } })) },
                ...(floor ? [{ type: 'line', symbol: 'none', silent: true, tooltip: { show: false },
                               emphasis: { disabled: true }, lineStyle: { color: theme().text, width: 1.2, type: [4, 3] },
                               data: rows.map(() => floor.floor_ns) }] : []),
            ],
        },
    };
}
