// roofline.js: arithmetic per second against arithmetic per byte, both of the model, for every unit at one length. A unit
// without arithmetic is not on it.

import { axisLook, baseOption, tooltipBody } from './frame.js';
import { count, duration, measuredOn, ratio, shareInterval } from './format.js';
import { choiceOf, chosenUnits, headlineOf } from './gpu.js';
import { ORDER } from './stage_names.js';
import { theme } from './theme.js';

// Stages that a narrow chart has labels for.
const MAIN = ['distance', 'topk', 'attention', 'dense'];

const SYMBOLS = { step: 'diamond', dense: 'rect' };

// "12.3 Tflop/s"
function rate(flops_per_s) {
    const units = ['flop/s', 'kflop/s', 'Mflop/s', 'Gflop/s', 'Tflop/s', 'Pflop/s'];
    const unit = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log10(flops_per_s) / 3)));
    return `${Number((flops_per_s / 1000 ** unit).toPrecision(3))} ${units[unit]}`;
}

const bandwidth = (bytes_per_s) => `${(bytes_per_s / 1e12).toFixed(2)} TB/s`;

function pointsOf(report, profile) {
    const { seq_len } = choiceOf(report, profile);
    return chosenUnits(report, profile)
        .filter((unit) => unit.config.seq_len === seq_len && unit.flops > 0 && unit.bytes > 0)
        .map((unit) => ({ unit, x: unit.flops / unit.bytes, y: unit.flops / unit.median * 1e9 }));
}

// Of each stage the point of the headline's budget that is nearest to its limit: it gets a label.
function labelledOf(points, budget, isNarrow) {
    const best = new Map();
    for (const point of points.filter(({ unit }) => [null, budget].includes(unit.config.budget))) {
        const { stage, bytes, median } = point.unit, before = best.get(stage);
        if (isNarrow && !MAIN.includes(stage)) continue;
        if (!before || bytes / median > before.unit.bytes / before.unit.median) best.set(stage, point);
    }
    return new Set(best.values());
}

// Where each label goes: to the right of its point, else to the left, above or below, wherever it covers no other point and no
// other label; nowhere if all four are taken. pixelOf: of a point, [x, y] from the grid's corner. The tables name every point.
const LETTER = 6.3, LINE = 13, GAP = 8; // px, of labels of 11 px

function placesOf(points, labelled, pixelOf, { width, height }) {
    const taken = points.map((point) => {
        const [x, y] = pixelOf(point);
        return { left: x - 4, right: x + 4, top: y - 4, bottom: y + 4, point };
    });
    const places = new Map();
    for (const point of labelled) {
        const [x, y] = pixelOf(point), half = labelOf(point).length * LETTER / 2;
        const boxes = { right: [x + GAP, y - LINE / 2], left: [x - GAP - 2 * half, y - LINE / 2],
                        top: [x - half, y - GAP - LINE], bottom: [x - half, y + GAP] };
        for (const [position, [left, top]] of Object.entries(boxes)) {
            const box = { left, right: left + 2 * half, top, bottom: top + LINE };
            const isFree = taken.every((other) => other.point === point || box.right < other.left || other.right < box.left
                                       || box.bottom < other.top || other.bottom < box.top);
            if (!isFree || box.left < 0 || box.right > width || box.top < 0 || box.bottom > height) continue;
            places.set(point, position);
            taken.push(box);
            break;
        }
    }
    return places;
}

const labelOf = ({ unit }) => `${unit.stage}${unit.stage === 'step' ? ` (${unit.config.variant})` : ''}`;

// A dot; pale where it is of another budget than the labelled ones.
function dotOf(point, places, budget) {
    const { config } = point.unit, isMain = [null, budget].includes(config.budget);
    return { value: [Math.log10(point.x), Math.log10(point.y)], point, symbolSize: isMain ? 10 : 6,
             itemStyle: { opacity: isMain ? 1 : 0.45 },
             label: { show: places.has(point), position: places.get(point), distance: 5, fontSize: 11, color: theme().text,
                      formatter: labelOf(point) } };
}

function tooltip({ point }, limit) {
    const { unit, x, y } = point, { config } = unit;
    return tooltipBody(`${unit.stage} (${config.variant})${config.budget === null ? '' : `, budget ${count(config.budget)}`}`,
                       [[theme().stages[unit.stage], 'of the read limit', ratio(unit.bytes / unit.median * 1e9 / limit)],
                        [null, 'arithmetic', rate(y)], [null, 'model bytes', bandwidth(unit.bytes / unit.median * 1e9)],
                        [null, 'intensity', `${Number(x.toPrecision(3))} flop per byte`]],
                       [`${duration(unit.median)} (n = ${count(unit.n)}) at ${count(config.seq_len)} tokens`,
                        ...shareInterval(unit, unit.bytes / limit * 1e9), ...measuredOn([unit])]);
}

function axis(name, min, max, formatter) {
    const look = axisLook();
    const ticks = Array.from({ length: Math.round(max - min) + 1 }, (_, i) => min + i);
    return { ...look, type: 'value', min, max, interval: 1, name, nameLocation: 'middle', axisTick: { show: false },
             axisLabel: { ...look.axisLabel, customValues: ticks, formatter: (power) => formatter(10 ** power) } };
}

export const drawable = (report, profile) => report.profiles[profile].device.read_limit_bytes_per_s > 0
    && report.units.some((unit) => unit.profile === profile && unit.flops > 0 && unit.bytes > 0 && unit.status === 'ok');

export function drawRoofline(report, profile, width) {
    const { device, ceilings } = report.profiles[profile], limit = device.read_limit_bytes_per_s;
    const peak = ceilings?.tensor_flops_per_s ?? null, fp32 = ceilings?.fp32_flops_per_s ?? null;
    const points = pointsOf(report, profile), base = baseOption(), colours = theme();
    const { budget } = headlineOf(report, profile), labelled = labelledOf(points, budget, width < 560);
    const stages = ORDER.filter((stage) => points.some((point) => point.unit.stage === stage));
    const xs = points.map((point) => Math.log10(point.x)), ys = points.map((point) => Math.log10(point.y));
    const xMin = Math.floor(Math.min(-1, ...xs)), xMax = Math.max(Math.ceil(Math.max(1, ...xs) + 0.05), peak ? 3 : 0);
    const roof = (x) => Math.min(Math.log10(limit) + x, peak ? Math.log10(peak) : Infinity);
    const yMin = Math.floor(Math.min(...ys, roof(xMin))), yMax = Math.ceil(Math.max(roof(xMax), ...ys));
    const ridge = peak ? Math.log10(peak / limit) : null;
    const height = Math.max(300, Math.min(420, width * 0.42));
    const grid = { left: 74, right: 16, top: 12, bottom: 44 };
    const inner = { width: width - grid.left - grid.right, height: height - grid.top - grid.bottom };
    const places = placesOf(points, labelled, ({ x, y }) => [(Math.log10(x) - xMin) / (xMax - xMin) * inner.width,
                                                             (yMax - Math.log10(y)) / (yMax - yMin) * inner.height], inner);
    return {
        height,
        label: `Roofline: ${stages.join(', ')} below the slope of ${bandwidth(limit)}. The tables hold the figures.`,
        legend: [...stages.map((stage) => ({ name: stage, colour: colours.stages[stage], mark: 'block' })),
                 { name: `read limit, measured: ${bandwidth(limit)}${peak ? `; tensor cores, computed: ${rate(peak)}` : ''}`,
                   colour: colours.text, mark: 'line' },
                 ...(fp32 ? [{ name: `ordinary cores, computed: ${rate(fp32)}`, colour: colours.quiet, mark: 'dashed' }] : [])],
        option: {
            ...base,
            tooltip: { ...base.tooltip, trigger: 'item', formatter: (hit) => (hit.data.point ? tooltip(hit.data, limit) : '') },
            grid,
            xAxis: { ...axis('flop per byte', xMin, xMax, (value) => String(Number(value.toPrecision(1)))), nameGap: 26 },
            yAxis: { ...axis('', yMin, yMax, rate), axisLine: { show: false } },
            series: [
                { type: 'line', silent: true, symbol: 'none', z: 1, lineStyle: { color: colours.text, width: 1.8 },
                  tooltip: { show: false }, emphasis: { disabled: true },
                  data: [xMin, ...(ridge !== null && ridge > xMin && ridge < xMax ? [ridge] : []), xMax]
                      .map((x) => [x, roof(x)]) },
                ...(fp32 ? [{ type: 'line', silent: true, symbol: 'none', z: 1, tooltip: { show: false },
                              emphasis: { disabled: true }, lineStyle: { color: colours.quiet, width: 1.3, type: [5, 3] },
                              data: [Math.log10(fp32 / limit), xMax].map((x) => [x, Math.log10(fp32)]) }] : []),
                ...stages.map((stage) => ({
                    type: 'scatter', symbol: SYMBOLS[stage] ?? 'circle', symbolSize: 9, z: 3, emphasis: { disabled: true },
                    itemStyle: { color: colours.stages[stage], borderColor: colours.surface, borderWidth: 1, opacity: 1 },
                    data: points.filter((point) => point.unit.stage === stage).map((point) => dotOf(point, places, budget)),
                })),
            ],
        },
    };
}
