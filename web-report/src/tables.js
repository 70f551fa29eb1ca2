// tables.js: what scripts add to the tables that the program wrote: numbers rounded with the written digits as tooltip, sorting
// by a column, a filter over the rows, the rows as CSV, and the SQL that gives them. A library would bring its own markup in
// place of the program's; this leaves every row as it is.

import { element, save } from './dom.js';
import { chosen, keep } from './state.js';

const MINUS = '\u2212', NUMBER = /^[\u2212-]?\d[\d,]*(\.\d+)?$/, FEW_ROWS = 6;
const SCALES = { ns: 1, '\u00b5s': 1e3, ms: 1e6, s: 1e9 };

const plain = (text) => Number(text.replaceAll(',', '').replace(MINUS, '-'));

// Four digits, or all before the point: "97.271" is 97.27, "1,204.6" is 1,205.
export function rounded(text) {
    if (!NUMBER.test(text) || !text.includes('.')) return text;
    const value = plain(text), size = Math.abs(value);
    if (size > 0 && size < 1e-3) return text.replace(/(\.0*[1-9]\d{0,2})\d*$/, '$1');
    const decimals = size === 0 ? 0 : Math.max(0, 3 - Math.floor(Math.log10(size)));
    if (text.split('.')[1].length <= decimals) return text;
    return (value < 0 ? MINUS : '')
        + size.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

function roundCells(table) {
    for (const cell of table.querySelectorAll('tbody td')) {
        const node = cell.firstChild;
        if (!node || node.nodeType !== Node.TEXT_NODE) continue;
        const text = node.nodeValue.trim(), short = rounded(text);
        if (short === text) continue;
        cell.dataset.exact = text;
        cell.title = cell.title ? `${text}, ${cell.title}` : text;
        node.nodeValue = short === text ? text : node.nodeValue.replace(text, short);
    }
}

// What a cell sorts by: a number (a duration in ns), else its words; null for a dash or a reason.
export function keyOf(text) {
    const words = text.trim();
    if (words === '' || words === '\u2013') return null;
    const number = words.match(/^[<>]?([+\u2212-]?\d[\d,]*(?:\.\d+)?)\s*(ns|\u00b5s|ms|s)?(?:\b|\D|$)/);
    if (number) return plain(number[1].replace('+', '')) * (SCALES[number[2]] ?? 1);
    return words.toLowerCase();
}

export function compareKeys(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === 'number' ? -1 : 1;
    return a < b ? -1 : Number(a > b);
}

const textOf = (cell) => cell.dataset.exact ?? cell.textContent;

// Runs of rows between lines that head a group; each is sorted by itself.
function runsOf(body) {
    const runs = [[]];
    for (const row of body.rows) {
        if (row.querySelector('th.group')) runs.push([]);
        else runs[runs.length - 1].push(row);
    }
    return runs;
}

function sortRows(table, column, descending) {
    const body = table.tBodies[0];
    for (const run of runsOf(body)) {
        if (run.length < 2) continue;
        const end = run[run.length - 1].nextSibling, width = table.tHead.rows[0].cells.length;
        const key = (row) => (row.cells.length === width ? keyOf(textOf(row.cells[column])) : null);
        const keyed = run.map((row, i) => [key(row), i, row]);
        keyed.sort(([a, i], [b, j]) => {
            if (a === null || b === null) return compareKeys(a, b) || i - j;
            return (descending ? -compareKeys(a, b) : compareKeys(a, b)) || i - j;
        });
        keyed.forEach(([, , row]) => body.insertBefore(row, end));
    }
}

function addSorting(table, name) {
    const head = table.tHead?.rows[0];
    if (!head || table.tHead.rows.length > 1 || !table.tBodies[0]) return;
    const apply = (column, descending) => {
        [...head.cells].forEach((cell, i) => {
            if (i === column) cell.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
            else cell.removeAttribute('aria-sort');
        });
        table.classList.add('sorted');
        sortRows(table, column, descending);
    };
    [...head.cells].forEach((cell, column) => {
        const button = element('button', 'sort', ...cell.childNodes);
        button.type = 'button';
        button.addEventListener('click', () => {
            const descending = cell.getAttribute('aria-sort') === 'ascending';
            apply(column, descending);
            keep(`sort.${name}`, `${column}${descending ? 'd' : 'a'}`);
        });
        cell.append(button);
    });
    const before = /^(\d+)([ad])$/.exec(chosen(`sort.${name}`) ?? '');
    if (before && Number(before[1]) < head.cells.length) apply(Number(before[1]), before[2] === 'd');
}

// Rows that hold every word; how many of how many is said.
function filterRows(table, words, status) {
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0, shown = 0;
    for (const row of table.tBodies[0].rows) {
        if (row.querySelector('th.group')) continue;
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
        n++;
        shown += row.hidden ? 0 : 1;
    }
    status.textContent = wanted.length > 0 ? `${shown} of ${n} rows` : '';
}

const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const cellText = (cell) => {
    const text = (cell.dataset.exact ?? cell.innerText ?? cell.textContent).trim();
    return NUMBER.test(text) ? String(text.replaceAll(',', '').replace(MINUS, '-')) : text.replace(/\s+/g, ' ');
};

// The rows in view, as lines of values between commas; numbers in all their digits.
export function csvOf(table) {
    const rows = [...(table.tHead?.rows ?? []), ...[...table.tBodies].flatMap((body) => [...body.rows])];
    return rows.filter((row) => !row.hidden && !row.querySelector('th.group'))
        .map((row) => [...row.cells].flatMap((cell) => [quoted(cellText(cell)), ...new Array(cell.colSpan - 1).fill('')])
            .join(',')).join('\n') + '\n';
}

// Onto the clipboard, or where a browser forbids that into a file.
async function copy(button, name, type, text) {
    const before = button.textContent;
    try {
        await navigator.clipboard.writeText(text);
        button.textContent = 'copied';
    } catch {
        save(name, type, text);
        button.textContent = 'saved';
    }
    setTimeout(() => { button.textContent = before; }, 1200);
}

function makeButton(words, title, pressed) {
    const button = element('button', '', words);
    button.type = 'button';
    button.title = title;
    button.addEventListener('click', () => pressed(button));
    return button;
}

function addTools(table, title, name, sql) {
    const tools = element('div', 'tools'), status = element('output', '');
    if (table.tBodies[0]?.rows.length > FEW_ROWS) {
        const input = element('input', '');
        input.type = 'search';
        input.placeholder = 'filter rows';
        input.setAttribute('aria-label', `Filter the rows of ${title}`);
        input.addEventListener('input', () => {
            filterRows(table, input.value, status);
            keep(`find.${name}`, input.value);
        });
        input.value = chosen(`find.${name}`) ?? '';
        if (input.value) filterRows(table, input.value, status);
        tools.append(input, status);
    }
    tools.append(makeButton('copy CSV', `Copies the rows of ${title} in view, all digits`,
                            (button) => copy(button, `${name}.csv`, 'text/csv', csvOf(table))));
    if (sql) {
        const shown = element('pre', 'sql', sql);
        shown.hidden = true;
        shown.tabIndex = 0;
        const toggle = makeButton('as SQL', 'The query that gives these rows from the database', (button) => {
            shown.hidden = !shown.hidden;
            button.setAttribute('aria-expanded', String(!shown.hidden));
        });
        toggle.setAttribute('aria-expanded', 'false');
        tools.append(toggle, shown);
    }
    return tools;
}

const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 48);

function dressTable(table, report) {
    const box = table.closest('details'), scroll = table.closest('.scroll');
    const title = box ? box.querySelector('summary').firstChild.textContent.trim()
        : table.caption?.textContent ?? 'the table';
    const part = table.closest('section')?.id ?? '', name = slug(`${part} ${title}`);
    roundCells(table);
    for (const cell of table.querySelectorAll('th.metric'))
        cell.title = report.metrics.find((metric) => metric.name === cell.textContent)?.description ?? '';
    const query = table.querySelector('colgroup')?.dataset.sql?.trim();
    if (!table.closest('.fields')) addSorting(table, name);
    scroll?.before(addTools(table, title, name, query && `${query};`));
}

// Command lines get a button that copies them.
function dressCommands(root) {
    for (const line of root.querySelectorAll('pre.command'))
        line.after(element('div', 'tools', makeButton('copy command', 'Copies the command line',
            (button) => copy(button, 'command.sh', 'text/x-sh', line.textContent))));
}

// Folded tables stay out of the page until they are first opened. On paper all are open, and plain.
export function dressTables(root, report, paper) {
    for (const box of paper ? [] : root.querySelectorAll('details.folded')) {
        const rest = document.createDocumentFragment();
        rest.append(...[...box.childNodes].filter((node) => node.nodeName !== 'SUMMARY'));
        box.open = false;
        const unfold = () => {
            if (!box.open) return; /* folding it just now tells of a toggle, too */
            box.removeEventListener('toggle', unfold);
            const tables = [...rest.querySelectorAll('table')];
            box.append(rest);
            tables.forEach((table) => dressTable(table, report));
        };
        box.addEventListener('toggle', unfold);
    }
    if (!paper) dressCommands(root);
    for (const table of root.querySelectorAll('table')) {
        if (paper) roundCells(table);
        else dressTable(table, report);
    }
}
