// browser.mjs: what the browser tests share: the program, headless Chromium, and what they ask a page.
//
// ADAMAS_BIN names the program (else the release build), CHROMIUM the browser (unset: /usr/bin/chromium; empty: none).

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

const program = process.env.ADAMAS_BIN || join(root, 'build/release/adamas');
const browserPath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const BROWSER_FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
                       '--disable-background-networking', '--disable-component-update'];

export const skip = !existsSync(browserPath)
    && `no Chromium${browserPath && ` at ${browserPath}`}: install the package chromium, or set CHROMIUM`;

export const adamas = (folder, ...args) =>
    execFileSync(program, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });

export function launch() {
    const modules = [...(process.env.NODE_PATH ?? '').split(delimiter).filter(Boolean),
                     join(root, 'build/deps/web/node_modules')];
    const require = createRequire(import.meta.url);
    const { chromium } = require(require.resolve('playwright-core', { paths: modules }));
    return chromium.launch({ executablePath: browserPath, args: BROWSER_FLAGS });
}

// Opens the page, at `view` ("limits?gpu=3"), once its charts are drawn; whatever it says, asks for, or pops up is kept in the
// three lists.
export async function openPage(browser, url, { view, ...options } = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    const said = [], requested = [], dialogs = [];
    page.on('console', (message) => said.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => said.push(`error: ${error.message}`));
    page.on('request', (request) => requested.push(request.url()));
    page.on('dialog', (dialog) => {
        dialogs.push(dialog.message());
        dialog.dismiss();
    });
    await page.goto(view ? `${url}#${view}` : url, { waitUntil: 'load' });
    if (options.javaScriptEnabled !== false) await page.locator('html[data-charts=drawn]').waitFor({ state: 'attached' });
    return { page, said, requested, dialogs, close: () => context.close() };
}

// Follows a link to a view, as a reader or another page would.
export const goTo = (page, view) => page.evaluate((hash) => { window.location.hash = hash; }, view)
    .then(() => page.waitForFunction((id) => {
        const target = document.getElementById(id);
        return target !== null && !target.closest('main > section').hidden;
    }, view.split('?')[0]));

// Calls back in every view, for everything of which it shows one at a time: a GPU, a session, ...
export async function tour(page, visit) {
    for (const view of await page.locator('nav a').evaluateAll((all) => all.map((one) => one.getAttribute('href').slice(1)))) {
        await goTo(page, view);
        const chooser = page.locator(`#${view} .chooser select`).first();
        const values = await chooser.count() > 0 ? await chooser.locator('option').evaluateAll((all) =>
            all.map((one) => one.value)) : [null];
        for (const value of values) {
            if (value !== null) await page.locator(`#${view} .chooser select`).first().selectOption(value);
            await visit(view);
        }
    }
}

// Opens folded tables, which are in the page only from then on.
export async function unfold(boxes) {
    for (const box of await boxes.all()) {
        if (await box.getAttribute('open') === null) await box.locator('summary').click();
        await box.locator('table').first().waitFor();
    }
}

// The figure of a cell: all digits that were written, as a number.
export const exact = (text) => parseFloat(text.replaceAll(',', '').replace('\u2212', '-'));

// For every frame: how many drawings, and how many shapes in them have a size and a colour.
export const drawings = (page) => page.locator('figure.plot').evaluateAll((figures) => figures.map((figure) => ({
    name: [figure.dataset.plot, figure.dataset.session ?? figure.dataset.profile ?? figure.dataset.evaluation,
           figure.dataset.metric].join(' '),
    n_svg: figure.querySelectorAll('svg').length,
    n_shapes: [...figure.querySelectorAll('svg path')].filter((path) => {
        const box = path.getBBox(), { fill, stroke } = getComputedStyle(path);
        return box.width + box.height > 1 && (fill !== 'none' || stroke !== 'none');
    }).length,
    label: figure.querySelector('[role=img]')?.getAttribute('aria-label') ?? '',
})));

// Rows of a query as arrays. Node has SQLite from 22.5 on; Python always has it.
export async function query(database, sql) {
    const builtin = await import('node:sqlite').catch(() => null);
    if (builtin) {
        const connection = new builtin.DatabaseSync(database, { readOnly: true });
        const rows = connection.prepare(sql).all().map((row) => Object.values(row));
        connection.close();
        return rows;
    }
    const script = 'import json, sqlite3, sys\n'
                 + 'print(json.dumps(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()))';
    return JSON.parse(execFileSync('python3', ['-c', script, database, sql], { encoding: 'utf8' }));
}

// Runs an SQL script.
export const execute = (database, sql) => execFileSync('python3', ['-c',
    'import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1])\nconnection.executescript(sys.argv[2])\nconnection.close()',
    database, sql]);

// Rows [source, stage, layer, head, metric, figures...] as measurements of a recorded file (analysis/db/recorded_table.h).
export const measured = (rows) => rows.map(([source, stage, layer, head, metric, ...figures]) =>
    [source, stage, ...(layer === null ? [] : [layer, head]), { [metric]: figures.length === 1 ? figures[0] : figures }]);
