// unpack.js: the page's data back into rows (analysis/report/pack.h has the form).

const isPacked = (value) => 'packed' in value && 'columns' in value;

function columnOf(column, n) {
    if (Array.isArray(column)) return column.map(unpack);
    if ('packed' in column) return unpackRows(column);
    if ('sparse' in column) return columnOf(column.sparse, n).map((value) => (value === null ? undefined : value));
    if ('all' in column) return new Array(n).fill(unpack(column.all));
    if ('at' in column) return column.at.map((index) => column.of[index]);
    return column.runs.flatMap((index, i) => (i % 2 === 0 ? new Array(column.runs[i + 1]).fill(column.of[index]) : []));
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
