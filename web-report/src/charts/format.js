// format.js: numbers for people, written as in the tables (analysis/output/numbers.c).

const MINUS = '\u2212';

const grouped = (value, decimals, most = decimals) =>
    (value < 0 ? MINUS : '')
    + Math.abs(value).toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: most });

// What would round to zero shows as "<0.01".
function fixed(value, decimals) {
    const size = Math.abs(value);
    if (size > 0 && size < 0.5 * 10 ** -decimals)
        return (value < 0 ? `>${MINUS}` : '<') + (10 ** -decimals).toFixed(decimals);
    return grouped(value, decimals);
}

export const count = (value) => grouped(value, 0);

// "4K" for 4,096, where space is short.
export const compact = (value) => (value >= 1024 && value % 1024 === 0 ? `${value / 1024}K` : count(value));

export const ratio = (value) => `${fixed(value * 100, 2)} %`;

export const ratioRange = (low, high) => `${fixed(low * 100, 2)} to ${fixed(high * 100, 2)} %`;

// A tick of an axis of ratios: no more decimals than it needs.
export const ratioTick = (value) => `${grouped(Number((value * 100).toPrecision(3)), 0, 4)} %`;

export function duration(ns) {
    const units = ['ns', '\u00b5s', 'ms', 's'];
    let unit = 0, value = ns;
    while (unit < 3 && Math.abs(value) >= 999.5) {
        value /= 1e3;
        unit++;
    }
    const size = Math.abs(value);
    return `${fixed(value, unit === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2)} ${units[unit]}`;
}

// A gain in three digits, as the tables have it: "5.02", "11.3".
export const times = (gain) => `${gain < 10 ? gain.toFixed(2) : gain.toFixed(1)}`;

// As core/stats/ratio.c: how sure the ratio of two median times is, where fewer than 20 timings are on either side; null where
// no interval is needed. A side is a row, or a constant.
function intervalOf(over, under) {
    const rows = [over, under].filter((side) => typeof side === 'object');
    const from = (low, high, words) => {
        const ends = (side) => (typeof side === 'object' ? [low(side), high(side)] : [side, side]);
        const [a, b] = ends(over), [c, d] = ends(under);
        return { low: a / d, high: b / c, words };
    };
    if (rows.every((row) => row.n >= 20)) return null;
    if (rows.every((row) => row.n >= 6 && row.median_ci_ratio != null && row.median_ci_ratio < 1))
        return from((row) => row.median * (1 - row.median_ci_ratio), (row) => row.median * (1 + row.median_ci_ratio),
                    'from the medians\u2019 95% intervals');
    return rows.every((row) => row.n >= 2 && row.p10 > 0) ? from((row) => row.p10, (row) => row.p90, 'from p10 and p90')
        : { words: 'n < 20, no interval' };
}

// Both as a list of at most one note.
export function ratioInterval(over, under) {
    const interval = intervalOf(over, under);
    if (interval === null) return [];
    return [interval.low === undefined ? interval.words
        : `${times(interval.low)} to ${times(interval.high)} times, ${interval.words}`];
}

export function shareInterval(unit, floor_ns) {
    const interval = intervalOf(floor_ns, unit);
    if (interval === null) return [];
    return [interval.low === undefined ? interval.words
        : `${ratioRange(interval.low, interval.high)} of the read limit, ${interval.words}`];
}

// In two digits, where space is short: "1.9 ms".
export function shortDuration(ns) {
    const [value, unit] = duration(Number(ns.toPrecision(2))).split(' ');
    return `${Number(value) < 10 ? Number(value).toFixed(1) : Number(value)} ${unit}`;
}

// The unit for all ticks of an axis that ends at max_ns, as { unit, ns }: ns is what one unit holds.
export function durationUnit(max_ns) {
    if (max_ns >= 1e9) return { unit: 's', ns: 1e9 };
    if (max_ns >= 1e6) return { unit: 'ms', ns: 1e6 };
    return max_ns >= 1e3 ? { unit: '\u00b5s', ns: 1e3 } : { unit: 'ns', ns: 1 };
}

// Of joined runs: the host and GPU of each of these rows, as notes of a tooltip; nothing for other runs.
export const measuredOn = (rows) => [...new Set(rows.map((row) => row?.place).filter(Boolean))]
    .map((place) => `measured on ${place}`);
