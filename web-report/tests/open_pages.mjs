// open_pages.mjs: how long pages take to open: `node open_pages.mjs ROUNDS FILE...` opens them in turns in fresh contexts of
// one browser and prints JSON: of each file the medians of the time to the load event and to the first view on the screen, in
// ms, and the elements then in the page. For tests/bench/bench_report.py.

import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import { launch } from './browser.mjs';

const [rounds, ...files] = process.argv.slice(2);
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
const browser = await launch();
const taken = files.map(() => ({ load_ms: [], shown_ms: [], elements: 0 }));
for (let round = 0; round < Number(rounds); round++)
    for (const [i, file] of files.entries()) {
        const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
        const page = await context.newPage(), from = performance.now();
        await page.goto(pathToFileURL(resolve(file)).href, { waitUntil: 'load' });
        const load_ms = await page.evaluate(() => performance.getEntriesByType('navigation')[0].loadEventEnd);
        await page.evaluate(() => new Promise((done) => { requestAnimationFrame(() => requestAnimationFrame(done)); }));
        taken[i].shown_ms.push(performance.now() - from);
        taken[i].load_ms.push(load_ms);
        taken[i].elements = await page.evaluate(() => document.querySelectorAll('*').length);
        await context.close();
    }
await browser.close();
console.log(JSON.stringify(files.map((file, i) => ({
    file, load_ms: median(taken[i].load_ms), shown_ms: median(taken[i].shown_ms),
                                                     elements: taken[i].elements }))));
