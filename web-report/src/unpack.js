// unpack.js: the page's data back into rows (analysis/report/pack.h has the form).

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_';
const isPacked = (value) => 'packed' in value && 'columns' in value;

function columnOf(column, n) {
    if (Array.isArray(column)) return column.map(unpack);
    if ('packed' in column) return unpackRows(column);
    if ('sparse' in column) return columnOf(column.sparse, n).map((value) => (value === null ? undefined : value));
    if ('all' in column) return new Array(n).fill(unpack(column.all));
    return Array.from(column.at, (digit) => column.of[DIGITS.indexOf(digit)]);
}

function unpackRows({ packed, columns }) {
    const rows = Array.from({ length: packed }, () => ({}));
    for (const [key, column] of Object.entries(columns))
        columnOf(column, packed).forEach((value, i) => {
            if (value !== undefined) rows[i][key] = value;
        });
    return rows;
}

export function unpack(value) {
    if (value === null || typeof value !== 'object') return value;
    if (Array.isArray(value)) return typeof value[0] === 'number' ? value : value.map(unpack);
    if (isPacked(value)) return unpackRows(value);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, unpack(inner)]));
}
