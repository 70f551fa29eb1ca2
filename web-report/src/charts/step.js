// step.js: one decode step in one row per way to run it, on a common axis.
//
//     six      ▓▒░█████████▒▒▒▒▒▒▒▒▓▓▓▓////     stages stacked, hatched: what the six take beyond their sum
//     fused    ▓▓▓▓▓▓▒▒▒░░░░                    phases where they were taken, else the whole
//     dense    ██████████████████████████████
//
// Of a stage's implementations the one that `six` runs is drawn, as in gpu_stages.js.

import { axisLook, baseOption, tooltipBody } from './frame.js';
import { compact, count, duration, durationUnit, measuredOn, ratio, times } from './format.js';
import { chosenUnits, distinct, findUnit, headlineOf, rowsOf } from './gpu.js';
import { select } from '../dom.js';
import { STAGES } from './stage_names.js';
import { mix, theme } from './theme.js';

const ROW = 46, AXIS = 40, LEFT = 14, NARROW = 560, MOST_TIMES = 2;

export const drawable = (report, profile) => report.units.filter((unit) =>
    unit.profile === profile && unit.stage === 'step' && unit.status === 'ok');

// Controls of length and budget; the choice { seq_len, budget } starts at the headline.
export function stepControls(report, profile, controls, changed) {
    const steps = rowsOf(report, 'units', profile).filter((unit) => unit.stage === 'step' && unit.status === 'ok');
    const headline = headlineOf(report, profile), choice = { seq_len: headline.seq_len, budget: headline.budget };
    for (const [key, words] of [['seq_len', 'length'], ['budget', 'budget']]) {
        const values = distinct(steps.map((unit) => unit.config[key]));
        if (!values.includes(choice[key])) choice[key] = values[0];
        if (values.length > 1)
            controls.append(select(words, values.map((value) => [String(value), `${count(value)} tokens`]), String(choice[key]),
                                   (value) => {
                                       choice[key] = Number(value);
                                       changed();
                                   }));
    }
    return choice;
}

const SAME = ['seq_len', 'budget', 'n_q_heads', 'n_kv_heads', 'head_dim', 'batch', 'variant', 'dtype'];

// Phases of this step, of any run of the same GPU that was recorded, or measured, like this one.
function phasesOf(report, profile, unit) {
    const own = report.profiles[profile];
    for (const [i, other] of report.profiles.entries()) {
        if (other.gpu !== own.gpu || other.is_recorded !== own.is_recorded) continue;
        const rows = rowsOf(report, 'phases', i).filter((row) => SAME.every((key) => row.config[key] === unit.config[key]));
        if (rows.length > 0) return rows;
    }
    return [];
}

const phaseColour = (i, n) => mix(theme().gain, 0.25 + 0.75 * ((i % 2) * 0.5 + i / (2 * n)));

// Rows: { name, unit, parts: [{ name, ns, colour, hatched }] }, dense attention last; null where there is no step.
export function stepRows(report, profile, choice) {
    const units = chosenUnits(report, profile), { seq_len, budget } = choice, colours = theme().stages;
    const here = units.filter((unit) => unit.config.seq_len === seq_len && !/ (xor|dot|asym4)$/.test(unit.config.variant));
    const steps = here.filter((unit) => unit.stage === 'step' && unit.config.budget === budget);
    if (steps.length === 0) return null;
    const rows = steps.map((unit) => {
        if (unit.config.variant === 'six') {
            const parts = STAGES.map((stage) => [stage, here.find((one) => one.stage === stage
                && (one.config.budget === null || one.config.budget === budget))]).filter(([, one]) => one)
                .map(([stage, one]) => ({ name: stage, ns: one.median, colour: colours[stage] }));
            return { name: 'six kernels', unit, parts };
        }
        const phases = phasesOf(report, profile, unit);
        return { name: unit.config.variant, unit, parts: phases.map((row, i) => ({
            name: row.phase, ns: row.median, colour: phaseColour(i, phases.length) })) };
    });
    for (const row of rows) {
        const sum = row.parts.reduce((total, part) => total + part.ns, 0), rest = row.unit.median - sum;
        if (sum === 0) row.parts = [{ name: 'one launch', ns: row.unit.median, colour: colours.step }];
        else if (rest > 0) row.parts.push({ name: 'launch gaps and waiting', ns: rest, colour: colours.rest, hatched: true });
    }
    rows.sort((a, b) => (a.unit.config.variant !== 'six') - (b.unit.config.variant !== 'six') || a.unit.median - b.unit.median);
    const dense = findUnit(units, 'dense', seq_len, null);
    if (dense) rows.push({ name: 'dense attention', unit: dense, parts: [
        { name: 'dense', ns: dense.median, colour: colours.dense }] });
    return rows;
}

// "Distance takes 38 % of six kernels; one launch is 1.5 times faster than six and 6.9 times faster than dense."
export function stepFinding(rows) {
    const six = rows.find((row) => row.unit.config.variant === 'six'), dense = rows.find((row) => row.unit.stage === 'dense');
    const fast = rows.filter((row) => row.unit.stage === 'step' && row !== six)[0], words = [];
    const stages = six ? six.parts.filter((part) => !part.hatched) : [];
    if (stages.length > 1) {
        const largest = stages.reduce((a, b) => (b.ns > a.ns ? b : a)), sum = stages.reduce((total, one) => total + one.ns, 0);
        words.push(`${largest.name} takes ${Math.round(100 * largest.ns / sum)}% of the stages\u2019 time`);
    }
    if (fast && six)
        words.push(`one launch (${fast.name}) is ${times(six.unit.median / fast.unit.median)} times as fast as six`);
    const best = fast ?? six;
    if (best && dense) {
        const gain = dense.unit.median / best.unit.median;
        words.push(gain >= 1 ? `${times(gain)} times as fast as dense attention`
            : `${times(1 / gain)} times slower than dense attention`);
    }
    const text = words.length === 3 ? `${words[0]}; ${words[1]} and ${words[2]}` : words.join('; ');
    return text && text[0].toUpperCase() + text.slice(1);
}

function tooltip(row) {
    const { unit, parts } = row;
    return tooltipBody(row.name, parts.map((part) => [part.colour, part.name, duration(part.ns), ratio(part.ns / unit.median)]),
                       [`median ${duration(unit.median)} (p10 to p90: ${duration(unit.p10)} to ${duration(unit.p90)}; `
                        + `n = ${count(unit.n)})`, ...measuredOn([unit])]);
}

// A segment, with its name where that fits.
function segment(row, part, from, index, most) {
    const scheme = theme();
    return {
        type: 'custom', data: [[from, index, Math.min(from + part.ns, most)]], z: 3,
        renderItem: (_, api) => {
            const [x, y] = api.coord([api.value(0), api.value(1) + 0.5]), [right] = api.coord([api.value(2), 0]);
            const width = Math.max(1, right - x - 1), height = 20, top = y - 3;
            const isCut = from + part.ns > most;
            const fits = width > 6.4 * part.name.length + 6;
            return { type: 'group', children: [
                { type: 'rect', shape: { x, y: top, width, height },
                  style: { fill: part.colour,
                           ...(part.hatched ? { stroke: scheme.quiet, lineDash: [3, 2], lineWidth: 1 } : {}) } },
                ...(isCut ? [{ type: 'polyline', silent: true, shape: { points: [0, 1, 2, 3, 4].map((i) =>
                    [right - 12 + (i % 2) * 6, top + i * height / 4]) },
                    style: { fill: 'none', stroke: scheme.surface, lineWidth: 3 } }] : []),
                ...(fits ? [{ type: 'text', silent: true, style: {
                    text: part.name, x: x + width / 2, y: top + height / 2, align: 'center', verticalAlign: 'middle',
                    fontSize: 10.5, fill: inkOn(part.colour) } }] : []),
            ] };
        },
        tooltip: { formatter: () => tooltip(row) },
    };
}

// Black or white, whichever reads better on "#rrggbb" or "rgb(r,g,b)".
function inkOn(colour) {
    const [r, g, b] = colour.startsWith('#') ? [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))
        : colour.match(/\d+/g).map(Number);
    return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#14181d' : '#ffffff';
}

export function drawStep(report, profile, choice, width) {
    const rows = stepRows(report, profile, choice), base = baseOption(), look = axisLook(), scheme = theme();
    if (rows === null)
        return { height: 20, label: 'No step was timed in this setting.', legend: [], option: {},
                 finding: 'No step was timed at this length and budget in this setting' };
    // Dense attention may take ten times as long: its bar is cut off, so that the stages can be told apart.
    const longest = Math.max(...rows.filter((row) => row.unit.stage === 'step').map((row) => row.unit.median));
    const most = Math.min(Math.max(...rows.map((row) => row.unit.median)), MOST_TIMES * longest) * 1.01;
    const unit = durationUnit(most), ticks = width < NARROW ? 3 : 6;
    const parts = [...new Map(rows.flatMap((row) => row.parts).map((part) => [part.name, part])).values()];
    return {
        height: rows.length * ROW + AXIS,
        finding: `${stepFinding(rows)} (${compact(choice.seq_len)} tokens, budget ${count(choice.budget)})`,
        label: `Stacked bars of one step: ${rows.map((row) => `${row.name} ${duration(row.unit.median)} (${row.parts.map(
            (part) => `${part.name} ${duration(part.ns)}`).join(', ')})`).join('; ')}.`,
        legend: parts.map((part) => ({ name: part.name, colour: part.colour, mark: part.hatched ? 'hatched' : 'block' })),
        option: {
            ...base,
            tooltip: { ...base.tooltip, trigger: 'item' },
            title: rows.map((row, i) => ({
                text: `${row.name}: ${duration(row.unit.median)}${row.unit.median > most ? ', cut off here' : ''}`,
                left: LEFT, top: i * ROW + 1, padding: 0,
                textStyle: { fontFamily: base.textStyle.fontFamily, fontSize: 12, fontWeight: 600, color: scheme.text } })),
            grid: { left: LEFT, right: 18, top: 0, height: rows.length * ROW },
            xAxis: { ...look, type: 'value', min: 0, max: most, splitNumber: ticks, axisTick: { show: false },
                     name: 'time of one layer', nameLocation: 'middle', nameGap: 24,
                     axisLabel: { ...look.axisLabel, showMaxLabel: false,
                                  formatter: (ns) => `${Number((ns / unit.ns).toPrecision(3))} ${unit.unit}` } },
            yAxis: { ...look, type: 'value', min: 0, max: rows.length, inverse: true, show: false },
            series: rows.flatMap((row, i) => {
                let from = 0;
                return row.parts.map((part) => {
                    const made = segment(row, part, from, i, most);
                    from += part.ns;
                    return made;
                });
            }),
        },
    };
}
