// page.test.mjs: how the page behaves, on the demo's gallery and two more replays: what a reader clicks, sorts, filters, links
// to, saves and prints; that assistive tools and a validator find nothing; and that every table's SQL runs.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, drawings, goTo, launch, openPage, query, root, skip, tour, unfold } from './browser.mjs';

const require = createRequire(import.meta.url);
const packagePath = (name) => require.resolve(name, {
    paths: [...(process.env.NODE_PATH ?? '').split(delimiter).filter(Boolean), join(root, 'build/deps/web/node_modules')] });

const MOST_ELEMENTS = 12000, MOST_BYTES = 1.6e6;

// Rules of HTML itself, all but style: the program leaves out end tags and quotes that HTML lets out.
const RULES = { 'no-implicit-close': 'off', 'no-implicit-button-type': 'off', 'attr-quotes': 'off', 'doctype-style': 'off',
                'void-style': 'off', 'no-raw-characters': ['error', { relaxed: true }] };

describe('the page', { skip }, () => {
    let folder, database, gallery, file, url, browser;

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        database = join(folder, 'adamas.db');
        const trace = join(root, 'traces/smollm2-135m-kjv.safetensors');
        // The gallery of `ninja demo`: recorded profiles, a history, a tuning session, a check that found a regression.
        execFileSync('python3', [join(root, 'demo.py'), '--into', folder], { stdio: ['ignore', 'ignore', 'inherit'] });
        gallery = join(folder, 'report.html');
        for (const label of ['one <0.01', 'two \u001b[31m\u0001'])
            adamas(folder, 'replay', trace, '--seq-lens', '1024', '--budgets', '64,256,1024', '--policies',
                   'dense,oracle,adamas,quest,streaming', '--target', 'mass=0.99', '--db', database, '--label', label,
                 '--quiet');
        const [[first]] = await query(database, `SELECT min(run_id) FROM run WHERE label LIKE 'one%'`);
        file = join(folder, 'page.html');
        adamas(folder, 'report', '--db', database, '--baseline', String(first), '-o', file, '--quiet');
        url = pathToFileURL(file).href;
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    const open = (options) => openPage(browser, url, options);
    const nElements = (page) => page.evaluate(() => document.querySelectorAll('*').length);

    test('is small, and opens with few elements in every view', async () => {
        for (const one of [gallery, file]) assert.ok(statSync(one).size <= MOST_BYTES, `${one}: ${statSync(one).size} bytes`);
        const { page, said, close } = await open();
        assert.ok(await nElements(page) < 500, 'the first screen');
        assert.equal(await page.locator('section:visible h2').textContent(), 'Did anything get worse?');
        await tour(page, async (view) => assert.ok(await nElements(page) <= MOST_ELEMENTS, view));
        assert.deepEqual(said, []);
        await close();
    });

    test('says on its first screen what was compared, what matters and how it was measured', async () => {
        const { page, close } = await open();
        const verdict = page.locator('#verdict');
        assert.match(await verdict.textContent(), /the runs since \(run \d+\) against \d+ \(run \d+\)/);
        assert.match(await verdict.textContent(), /\d+ regressed, \d+ improved, \d+ inconclusive, \d+ unchanged/);
        assert.deepEqual(await verdict.locator('.headlines a').evaluateAll((all) => all.map((one) => one.getAttribute('href'))),
                         ['#speedup', '#advice', '#budget', '#policies']);
        assert.ok(await verdict.locator('.health dd').count() >= 4);
        await verdict.locator('.headlines a').first().click();
        assert.ok(await page.locator('#speedup').isVisible() && !await verdict.isVisible());
        await page.goBack();
        assert.ok(await verdict.isVisible());
        await close();
    });

    test('sorts by a click, and a link brings the order back', async () => {
        const { page, said, close } = await open({ view: 'budget' });
        const title = '#budget table[aria-label="Every budget"]';
        const column = page.locator(`${title} th`, { hasText: /^output error/ });
        const errors = (where) => where.locator(`${title} tbody tr`).evaluateAll((rows) =>
            rows.map((row) => Number(row.cells[4].dataset.exact ?? row.cells[4].textContent)));
        const before = await errors(page);
        await column.getByRole('button').click();
        const ascending = [...before].sort((a, b) => a - b);
        assert.deepEqual(await errors(page), ascending);
        assert.equal(await column.getAttribute('aria-sort'), 'ascending');
        await column.getByRole('button').click();
        assert.deepEqual(await errors(page), [...ascending].reverse());
        const again = await open({ view: (await page.evaluate(() => window.location.hash)).slice(1) });
        assert.deepEqual(await errors(again.page), [...ascending].reverse());
        assert.deepEqual([said, again.said], [[], []]);
        await again.close();
        await close();
    });

    test('filters rows by words, says how many, and copies those as CSV with all digits', async () => {
        const { page, close } = await open({ view: 'budget', permissions: ['clipboard-read', 'clipboard-write'] });
        const box = page.locator('#budget details', { has: page.locator('table[aria-label="Every budget"]') });
        await box.getByRole('searchbox').fill('quest 256');
        assert.match(await box.locator('output').textContent(), /^1 of \d+ rows$/);
        assert.equal(await box.locator('tbody tr:visible').count(), 1);
        await box.getByRole('button', { name: 'copy CSV' }).click();
        await box.getByRole('button', { name: 'copied' }).waitFor();
        const lines = (await page.evaluate(() => navigator.clipboard.readText())).trim().split('\n');
        assert.equal(lines.length, 2);
        const [[stored]] = await query(database, `SELECT p50 FROM quality_summary WHERE policy = 'quest' AND budget = 256 AND
            metric = 'output_rel_l2' ORDER BY run_id DESC`);
        assert.ok(Math.abs(Number(lines[1].split(',')[4]) - 100 * stored) < 5e-5 * 100 * stored, lines[1]);
        await close();
    });

    test('saves a chart as a picture that stands alone', async () => {
        const { page, close } = await open({ view: 'speedup' });
        const [download] = await Promise.all([page.waitForEvent('download'),
                                              page.getByRole('button', { name: 'save SVG' }).click()]);
        assert.equal(download.suggestedFilename(), 'speedup.svg');
        const to = join(folder, 'speedup.svg');
        await download.saveAs(to);
        execFileSync('python3', ['-c', 'import sys, xml.dom.minidom\n'
            + 'root = xml.dom.minidom.parse(sys.argv[1]).documentElement\n'
            + 'assert root.tagName == "svg" and len(root.getElementsByTagName("path")) > 20', to]);
        await close();
    });

    test('shows for every table a query that runs on the database as it stands', async () => {
        const { page, close } = await open();
        const queries = new Set();
        let nTables = 0;
        await tour(page, async (view) => {
            await unfold(page.locator('details:visible'));
            const tables = await page.locator(`#${view} table`).evaluateAll((all) => all.map((table) => [
                table.getAttribute('aria-label') ?? table.caption?.textContent,
                table.querySelector('colgroup')?.dataset.sql ?? null]));
            for (const [title, sql] of tables) {
                assert.ok(sql, `${view}: ${title}`);
                queries.add(sql);
                nTables++;
            }
        });
        for (const sql of queries) assert.ok((await query(database, `SELECT count(*) FROM (${sql})`))[0][0] > 0, sql);
        assert.ok(nTables > 40 && queries.size > 20, `${nTables} tables, ${queries.size} queries`);
        await goTo(page, 'budget');
        const button = page.locator('#budget').getByRole('button', { name: 'as SQL' }).first();
        await button.click();
        assert.equal(await button.getAttribute('aria-expanded'), 'true');
        assert.match(await page.locator('#budget pre.sql:visible').textContent(), /^SELECT .*quality_summary.*;$/s);
        await close();
    });

    test('goes to paper whole, and comes back', async () => {
        const still = await open({ javaScriptEnabled: false });
        const rows = await still.page.locator('tbody tr').count();
        assert.ok(await still.page.locator('tbody tr').last().isVisible());
        await still.close();
        const { page, said, close } = await open();
        await page.evaluate(() => window.dispatchEvent(new Event('beforeprint')));
        assert.equal(await page.locator('tbody tr').count(), rows);
        assert.equal(await page.locator('details:not([open]), section[hidden]').count(), 0);
        for (const frame of await drawings(page)) assert.equal(frame.n_svg, 1, frame.name);
        await page.emulateMedia({ media: 'print' });
        await page.setViewportSize({ width: 690, height: 1000 }); /* pixels between the margins of A4 */
        assert.deepEqual(await page.locator('table, figure, pre').evaluateAll((all) => all
            .filter((one) => one.getBoundingClientRect().right > window.innerWidth + 1)
            .map((one) => `${one.getAttribute('aria-label') ?? one.textContent.slice(0, 80)}: too wide for paper`)), []);
        await page.emulateMedia({ media: null });
        await page.setViewportSize({ width: 1280, height: 900 });
        await page.evaluate(() => window.dispatchEvent(new Event('afterprint')));
        assert.ok(await nElements(page) < 500);
        const pdf = await page.pdf({ format: 'A4' });
        assert.ok(pdf.length > 2e5, `${pdf.length} bytes`);
        assert.equal(await page.locator('section:visible').count(), 1);
        assert.deepEqual(said, []);
        await close();
    });

    test('is reached and worked by keys alone', async () => {
        const { page, close } = await open();
        const press = async (key, n = 1) => { for (let i = 0; i < n; i++) await page.keyboard.press(key); };
        const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
        await press('Tab');
        assert.equal(await focused(), 'Skip to the figures');
        const views = await page.locator('nav a').allTextContents();
        await page.evaluate(() => { // a view that is shown, early or late, does not move where Tab goes on
            document.activeElement.blur();
            window.dispatchEvent(new Event('hashchange'));
        });
        for (const view of views.slice(0, views.indexOf('Budget') + 1)) {
            await press('Tab');
            assert.equal(await focused(), view);
            assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
        }
        await press('Enter');
        await page.locator('#budget table').first().waitFor();
        const seen = new Set();
        for (let i = 0; i < 120; i++) {
            await press('Tab');
            seen.add(await page.evaluate(() => `${document.activeElement.tagName} ${document.activeElement.className}`.trim()));
        }
        for (const one of ['SELECT', 'BUTTON', 'BUTTON sort', 'INPUT', 'SUMMARY', 'DIV scroll'])
            assert.ok(seen.has(one), `${one} among ${[...seen]}`);
        const sort = page.locator('#budget th button.sort').first();
        await sort.focus();
        await press('Enter');
        assert.equal(await page.locator('#budget th[aria-sort]').count(), 1);
        await close();
    });

    test('is valid HTML', async () => {
        const { HtmlValidate } = require(packagePath('html-validate'));
        const validator = new HtmlValidate({ extends: ['html-validate:standard'], rules: RULES });
        const text = readFileSync(file, 'utf8');
        const planted = await validator.validateString(text.replace('</h2>', '</h2><td><b>').replace('<main ', '<main <'));
        assert.ok(!planted.valid, 'the validator sees what is planted');
        const report = await validator.validateString(text);
        const found = report.results.flatMap((result) => result.messages)
            .map((message) => `${message.ruleId}, column ${message.column}: ${message.message}`);
        assert.deepEqual([...new Set(found)].slice(0, 20), []);
        assert.equal(text.match(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g), null, 'a control character');
    });

    // Words from the top of the page to the end of an element, and whether it is on the screen without scrolling.
    const wayTo = (page, locator) => locator.evaluate((one) => {
        const range = document.createRange();
        range.setStart(document.querySelector('main'), 0);
        range.setEndAfter(one);
        const parts = [...range.cloneContents().querySelectorAll('section:not([hidden])')];
        const words = parts.map((part) => part.textContent).join(' ');
        return { words: words.trim().split(/\s+/).length, onScreen: one.getBoundingClientRect().bottom <= window.innerHeight };
    });

    test('answers a new reader at most one click away', async () => {
        const { page, close } = await open();
        const worse = page.locator('.pairs li', { hasText: 'naive_topk.c' }).locator('strong');
        assert.match(await worse.textContent(), /regressed|inconclusive/);
        const sound = page.locator('#verdict h3', { hasText: 'Is it sound?' });
        const gain = page.locator('.headlines strong').first();
        for (const [one, most] of [[worse, 60], [gain, 130], [sound, 220]]) {
            const way = await wayTo(page, one);
            assert.ok(way.onScreen && way.words <= most, `${await one.textContent()}: ${JSON.stringify(way)}`);
        }
        assert.match(await sound.textContent(), /Yes|No/);
        await page.locator('.headlines a[href="#budget"]').click();
        const budget = page.locator('#budget .finding').first();
        assert.match(await budget.textContent(), /smallest budget within 5% .*worst head .*A step takes .*as fast as dense/);
        assert.ok((await wayTo(page, budget)).onScreen);
        await page.locator('nav a[href="#verdict"]').click();
        await page.locator('.headlines a[href="#advice"]').click();
        const topk = page.locator('#advice tbody tr', { hasText: /^topk/ });
        assert.match(await topk.textContent(), /Bytes explain \d+% of the time.*warps wait the longest for .*: \d+% of /);
        assert.ok((await wayTo(page, topk)).onScreen);
        await close();
    });

    test('says which sketch is best, and what became of each of the paper\u2019s claims', async () => {
        const { page, close } = await openPage(browser, pathToFileURL(gallery).href);
        const card = page.locator('.headlines li', { has: page.locator('a[href="#policies"]') });
        const words = await card.textContent(), [, name, n, loss] = words.match(
            /^(.+) is the best of (\d+) sketches.*At a budget of 256 of 4,096 tokens it loses ([\d.]+)% of the output/);
        const rows = await query(database, `SELECT variant, p50 FROM quality_summary WHERE policy = 'adamas' AND budget = 256
            AND seq_len = 4096 AND metric = 'output_rel_l2' ORDER BY p50`);
        assert.deepEqual([name, Number(n)], [rows[0][0], rows.length]);
        assert.ok(Math.abs(Number(loss) - 100 * rows[0][1]) < 0.051, words);
        await goTo(page, 'claims');
        const claims = await page.locator('#claims .answers li').allTextContents();
        assert.equal(claims.length, 6);
        const of = (start) => claims.find((claim) => claim.includes(start));
        assert.match(of('4.4 times faster'), /^\u2714 .*: reached: [\d.]+, dense over a step, .*so say \d of \d figures$/);
        assert.match(of('Matches full attention'), /^\? .*: not decided: [\d.]+%, output error, median .*evaluate\.py$/);
        assert.match(of('Perplexity no worse'), /not measured: python3 traces\/model\/evaluate\.py$/);
        assert.equal(await page.locator('#claims tbody tr').count(), Number((await page.locator('#claims summary .count')
            .textContent()).split(' ')[0]));
        await close();
    });

    test('shows one step with its stages stacked, and says so in its title', async () => {
        const { page, close } = await open({ view: 'time' });
        const figure = page.locator('figure[data-plot=step]');
        const finding = await figure.locator('.finding').textContent();
        assert.match(finding, /^Distance takes \d+% of the stages\u2019 time; one launch \((fused|grouped)\) is [\d.]+ times/);
        const label = await figure.locator('.chart').getAttribute('aria-label');
        assert.match(label, /six kernels .*launch gaps and waiting.*fused .*dense attention/);
        await close();
    });

    test('heads every chart of the gallery with what it says', async () => {
        const { page, close } = await openPage(browser, pathToFileURL(gallery).href);
        const silent = new Set(), there = new Set();
        await tour(page, async () => {
            for (const [plot, words] of await page.locator('section:visible figure.plot').evaluateAll((all) => all.map((one) =>
                [one.dataset.plot, one.querySelector('.finding')?.textContent ?? '']))) {
                there.add(plot);
                if (words.length < 20 || /NaN|undefined|null/.test(words)) silent.add(`${plot}: ${words}`);
            }
        });
        assert.deepEqual([...silent], []);
        for (const plot of ['step', 'gpu-stages', 'roofline', 'phases', 'timeline', 'counters', 'speedup', 'budget', 'tuning',
                            'history', 'heads', 'stages']) assert.ok(there.has(plot), plot);
        await close();
    });

    test('labels points of a roofline where no point and no other label is', async () => {
        const names = /^(hadamard|bucket|pack|append|distance|topk|attention|step \(.*\)|dense)$/;
        for (const width of [1280, 390]) {
            const { page, close } = await openPage(browser, pathToFileURL(gallery).href, { viewport: { width, height: 900 } });
            let n = 0;
            await tour(page, async (view) => {
                if (view !== 'limits') return;
                const found = await page.locator('section:visible [data-plot=roofline] svg').evaluateAll((all, source) => {
                    const isName = new RegExp(source), boxOf = (one) => one.getBoundingClientRect(), over = [];
                    let count = 0;
                    for (const svg of all) {
                        const labels = [...svg.querySelectorAll('text')].filter((one) => isName.test(one.textContent));
                        const dots = [...svg.querySelectorAll('path')].filter((one) => boxOf(one).width > 3 &&
                            boxOf(one).width < 14 && boxOf(one).height < 14);
                        count += labels.length;
                        for (const label of labels)
                            for (const other of [...labels, ...dots]) {
                                const [a, b] = [boxOf(label), boxOf(other)];
                                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                                if (other !== label && wide > 2 && high > 2)
                                    over.push(`${label.textContent} over ${other.textContent || 'a point'}: ${wide} x ${high}`);
                            }
                    }
                    return { over, count };
                }, names.source);
                assert.deepEqual(found.over, [], `${width} px`);
                n += found.count;
            });
            assert.ok(n >= (width > 600 ? 10 : 5), `${n} labels at ${width} px`);
            await close();
        }
    });

    test('tells under the pointer what a chart shows, without a fault', async () => {
        const { page, said, close } = await openPage(browser, pathToFileURL(gallery).href);
        const told = new Set();
        for (const view of ['time', 'limits', 'budget', 'speedup', 'quality', 'counters', 'tuning', 'decode', 'history']) {
            await goTo(page, view);
            for (const figure of await page.locator(`#${view} figure.plot`).all()) {
                const canvas = figure.locator('.chart');
                await canvas.evaluate((one) => one.scrollIntoView({ block: 'center' }));
                const { x, y, width, height } = await canvas.boundingBox();
                let words = '';
                for (let i = 0; i < 400 && words === ''; i++) {
                    await page.mouse.move(x + width * (0.1 + 0.85 * (i * 7 % 20) / 20),
                                          y + height * (0.1 + 0.8 * (i % 23) / 23));
                    words = (await canvas.locator('.tip').allTextContents()).join(' ');
                }
                assert.doesNotMatch(words, /undefined|NaN|\[object/);
                if (words) told.add(await figure.getAttribute('data-plot'));
            }
        }
        assert.deepEqual(said, []);
        for (const plot of ['step', 'gpu-stages', 'stages', 'roofline', 'budget', 'speedup', 'quality', 'policies', 'counters',
                            'tuning', 'decode']) assert.ok(told.has(plot), `${plot} among ${[...told]}`);
        await close();
    });

    test('has each run\u2019s command as a line to copy, one click from where the run is named', async () => {
        const { page, close } = await open({ view: 'speedup' });
        const link = page.locator('#speedup a[href^="#run-"]').first(), id = (await link.getAttribute('href')).slice(1);
        await link.click();
        const heading = page.locator(`#provenance #${id}`);
        await heading.waitFor();
        const line = page.locator(`#${id} + pre.command`), words = await line.textContent();
        assert.match(words, /^adamas profile (.* )?--seq-lens /);
        const [[argv]] = await query(database, `SELECT argv FROM run WHERE run_id = ${id.slice(4)}`);
        assert.deepEqual(words.split(' '), JSON.parse(argv).join(' ').split(' '));
        const tuned = page.locator('pre.command', { hasText: 'adamas tune' });
        assert.match(await tuned.textContent(), /--label 'demo: a naive kernel' /);
        assert.equal(await page.locator('#provenance button', { hasText: 'copy command' }).count(),
                     await page.locator('pre.command').count());
        await close();
    });

    for (const colorScheme of ['light', 'dark'])
        test(`has nothing that keeps anybody out, in the ${colorScheme}`, async () => {
            const { page, close } = await open({ colorScheme, bypassCSP: true });
            await page.addScriptTag({ path: packagePath('axe-core') });
            await tour(page, async (view) => {
                const violations = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] })
                    .then((result) => result.violations.map((one) => `${one.id}: ${one.nodes[0].html.slice(0, 160)}`)));
                assert.deepEqual(violations, [], view);
            });
            await close();
        });
});
