// report.test.mjs: the page of `adamas report` in a real browser, from the database of a real replay.
//
//   the bundled trace            -> replay \
//   a copy that calls itself synthetic,     -> one database -> report -> file:// in headless Chromium
//   with markup for names        -> replay /

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, drawings, exact, goTo, launch, openPage, query, root, skip, tour, unfold } from './browser.mjs';

const HOSTILE_LABEL = `</script><img src=x onerror=alert(1)>"&'`;
const HOSTILE_MODEL = `</title></script><script>alert(2)</script>"&'`;
// Charts of the view of budgets, of two sessions.
const BUDGET_FRAMES = ['budget 0 ', 'budget 1 '];

const HOSTILE_NAME = `"><svg onload=alert(3)>&.safetensors`;

// A copy of a trace with other metadata: | header bytes, u64 | JSON header | tensors |
function writeTrace(from, to, metadata) {
    const file = readFileSync(from), length = Number(file.readBigUInt64LE(0));
    const header = JSON.parse(file.subarray(8, 8 + length).toString('utf8'));
    Object.assign(header.__metadata__, metadata);
    let text = JSON.stringify(header);
    while (Buffer.byteLength(text) % 8 !== 0) text += ' ';
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
    writeFileSync(to, Buffer.concat([size, Buffer.from(text), file.subarray(8 + length)]));
}

describe('the report in a browser', { skip }, () => {
    let folder, database, url, browser;

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        database = join(folder, 'test.db');
        const real = join(root, 'traces/smollm2-135m-kjv.safetensors'), hostile = join(folder, HOSTILE_NAME);
        writeTrace(real, hostile, { kind: 'synthetic', model: HOSTILE_MODEL });
        // The newest run comes first in the report.
        adamas(folder, 'replay', hostile, '--seq-lens', '1024', '--budgets', '64', '--db', database, '--quiet',
               '--label', HOSTILE_LABEL);
        adamas(folder, 'replay', real, '--seq-lens', '1024,2048', '--budgets', '64,256', '--db', database, '--quiet');
        adamas(folder, 'report', '--db', database, '-o', join(folder, 'report.html'), '--quiet');
        url = pathToFileURL(join(folder, 'report.html')).href;
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    const open = (options) => openPage(browser, url, options);

    test('draws one chart in every frame, says nothing, and requests only itself', async () => {
        const { page, said, requested, close } = await open();
        const frames = [];
        assert.equal(await page.locator('figure.plot').count(), 0, 'the first screen needs no chart');
        await tour(page, async () => frames.push(...await drawings(page)));
        assert.deepEqual(new Set(frames.map((frame) => frame.name)), new Set([
            'policies 0 ', 'quality 0 recall', 'quality 0 mass', 'quality 0 output_rel_l2', 'policies 1 ',
            'quality 1 recall', 'quality 1 mass', 'quality 1 output_rel_l2', 'heads 0 ', 'heads 1 ', 'stages 0 time_ns',
            'stages 1 time_ns', ...BUDGET_FRAMES]));
        for (const frame of frames) {
            assert.equal(frame.n_svg, 1, frame.name);
            assert.ok(frame.n_shapes > 10, `${frame.name}: ${frame.n_shapes} shapes`);
            assert.ok(frame.label.length > 20, `${frame.name}: label "${frame.label}"`);
        }
        assert.deepEqual(said, []);
        assert.deepEqual(requested, [url]);
        await close();
    });

    test('draws a line for each policy and length, of that session alone', async () => {
        const { page, close } = await open();
        const counted = await query(database, `SELECT m.run_id, count(DISTINCT c.policy || c.variant || c.seq_len)
            FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id)
            WHERE k.name = 'recall' AND m.layer IS NULL AND c.budget IS NOT NULL AND m.status = 'ok' GROUP BY 1`);
        const runOf = await page.evaluate(() =>
            JSON.parse(document.getElementById('adamas-data').textContent).sessions.map((session) => session.run_id));
        for (const [session, run_id] of runOf.entries()) {
            await goTo(page, `quality?session=${run_id}`);
            const figure = page.locator(`figure[data-plot=quality][data-session="${session}"][data-metric=recall]`);
            const n_lines = await figure.locator('svg path[stroke-width="1.8"]').count();
            const measured = counted.find(([run]) => run === run_id)[1];
            assert.equal(n_lines, measured, `session ${session}`);
            assert.ok(measured > 0);
        }
        await close();
    });

    test('keeps real and synthetic sessions apart', async () => {
        const { page, close } = await open({ view: 'quality' });
        const badges = () => page.locator('#policies h3 .badge').allTextContents();
        assert.deepEqual(await badges(), ['real']);
        await goTo(page, 'quality?session=1');
        assert.deepEqual(await badges(), ['synthetic']);
        assert.equal(await page.locator('figure[data-session="0"]').count(), 0);
        await close();
    });

    test('without scripts shows every table, its figures and where charts would be', async () => {
        const { page, requested, close } = await open({ javaScriptEnabled: false });
        assert.equal(await page.locator('figure.plot svg').count(), 0);
        assert.equal(await page.locator('figure.plot').count(), 12 + BUDGET_FRAMES.length);
        assert.equal(await page.locator('figure.plot figcaption').count(), 12 + BUDGET_FRAMES.length);
        assert.ok(await page.locator('figure.plot .unscripted').first().isVisible());
        assert.equal(await page.locator('details:not([open])').count(), 0, 'tables are open');
        assert.ok(await page.locator('#summary table.headline').first().isVisible());
        assert.ok(await page.locator('table').count() > 20);
        assert.deepEqual(requested, [url]);
        await close();
    });

    test('holds in its tables exactly what the database holds', async () => {
        const { page, close } = await open({ view: 'quality' });
        for (const metric of ['recall', 'mass', 'output_rel_l2']) {
            await unfold(page.locator('#policies details', { hasText: new RegExp(`^${metric} `) }));
            const stored = await query(database, `
                SELECT c.policy || ' ' || c.variant, c.seq_len, c.budget, m.n, m.mean, m.median, m.p99
                FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id)
                JOIN trace t USING (trace_id)
                WHERE k.name = '${metric}' AND m.layer IS NULL AND m.stage IS NULL AND t.kind = 'real'
                AND m.status = 'ok'`);
            const shown = await page.locator('#policies details').evaluateAll((tables, name) => {
                const title = (table) => table.querySelector('summary').firstChild.textContent.trim();
                const table = tables.find((one) => title(one) === name);
                const titles = [...table.querySelectorAll('thead th')].map((th) => th.textContent);
                const column = (start) => titles.findIndex((title) => title.startsWith(start));
                return [...table.querySelectorAll('tbody tr')].map((row) => {
                    const exact = (start) => row.cells[column(start)].dataset.exact ?? row.cells[column(start)].textContent;
                    const whole = (start) => {
                        const text = row.cells[column(start)].textContent;
                        return /\d/.test(text) ? Number(text.replaceAll(',', '')) : null;
                    };
                    return [row.cells[0].textContent, whole('length'), whole('budget'), whole('n'),
                            exact('mean'), exact('p50'), exact('p99')];
                });
            }, metric);
            assert.ok(stored.length >= 6, `${stored.length} rows of ${metric}`);
            const key = (row) => JSON.stringify(row.slice(0, 4));
            assert.equal(shown.length, stored.length);
            for (const row of stored) {
                const written = shown.find((one) => key(one) === key(row));
                assert.ok(written, key(row));
                row.slice(4).forEach((value, i) => assert.ok(
                    Math.abs(exact(written[4 + i]) - 100 * value) <= 5e-5 * Math.abs(100 * value), `${key(row)} ${value}`));
            }
        }
        await close();
    });

    test('holds the shares of the codes that the database holds', async () => {
        const { page, close } = await open({ view: 'codes' });
        const stored = await query(database, `
            SELECT c.policy || ' ' || c.variant, c.seq_len, k.name, m.mean
            FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id)
            JOIN trace t USING (trace_id)
            WHERE k.name LIKE 'bucket%' AND m.layer IS NULL AND m.stage IS NULL AND t.kind = 'real'`);
        const shown = await page.locator('#codes details').first().evaluate((table) =>
            [...table.querySelectorAll('tbody tr')].flatMap((row) => {
                const cells = [...row.cells], names = [0, 1, 2, 3].map((code) => `bucket_occupancy_${code}`);
                return [...names, 'bucket_entropy_bits'].map((name, i) => [
                    cells[0].textContent, Number(cells[1].textContent.replaceAll(',', '')), name,
                    cells[3 + i].dataset.exact ?? cells[3 + i].textContent]);
            }));
        const key = (row) => JSON.stringify(row.slice(0, 3));
        assert.ok(stored.length >= 20, `${stored.length} values`);
        assert.equal(shown.length, stored.length);
        for (const row of stored) {
            const written = shown.find((one) => key(one) === key(row)), value = row[3] * (row[2].endsWith('bits') ? 1 : 100);
            assert.ok(written && Math.abs(exact(written[3]) - value) <= 5e-5 * value, `${key(row)}: ${value}`);
        }
        await close();
    });

    test('carries the notices of what it bundles', async () => {
        const { page, close } = await open();
        const script = await page.locator('body > script:not([type])').textContent();
        for (const notice of ['The Apache Software Foundation', 'Baidu Inc.', 'Mike Bostock', 'Microsoft Corporation'])
            assert.ok(script.includes(notice), notice);
        await close();
    });

    test('shows hostile names as text and runs none of them', async () => {
        const { page, said, dialogs, close } = await open({ view: 'quality?session=1' });
        const about = await page.locator('#policies p.about', { hasText: 'run 1' }).first().textContent();
        assert.ok(about.includes(HOSTILE_LABEL), about);
        assert.ok(about.includes(HOSTILE_MODEL), about);
        assert.ok((await page.locator('#policies .part h3').first().textContent()).includes(HOSTILE_NAME));
        assert.ok((await page.title()).includes(HOSTILE_NAME));
        assert.equal(await page.locator('img, svg[onload], [onerror]').count(), 0);
        assert.equal(await page.locator('script').count(), 3, 'data, packed charts, the page\u2019s own');
        await page.waitForTimeout(200);
        assert.deepEqual(dialogs, []);
        assert.deepEqual(said, []);
        await close();
    });

    test('lets no other script or style in', async () => {
        const { page, said, close } = await open();
        const ran = await page.evaluate(() => {
            const script = document.createElement('script');
            script.textContent = 'window.intruder = true';
            document.body.append(script);
            return window.intruder === true;
        });
        assert.equal(ran, false);
        assert.ok(said.some((line) => /Content.Security.Policy/i.test(line)), said.join('\n'));
        await close();
    });

    test('tells units and n over a point, and follows the choice of heads', async () => {
        const { page, said, close } = await open({ view: 'quality' });
        const chart = page.locator('figure[data-plot=quality][data-session="0"][data-metric=recall] .chart');
        const box = await chart.boundingBox();
        await chart.hover({ position: { x: box.width * 0.25, y: box.height / 2 } });
        const tip = chart.locator('.tip');
        await tip.waitFor();
        assert.match(await tip.textContent(), /of 1,024 tokens.*%.*n = [\d,]+/s);

        const heads = page.locator('figure[data-plot=heads][data-session="0"]');
        const before = await heads.locator('svg').innerHTML();
        await heads.getByLabel('metric').selectOption('recall');
        assert.match(await heads.locator('[role=img]').getAttribute('aria-label'), /recall/);
        assert.notEqual(await heads.locator('svg').innerHTML(), before);
        assert.deepEqual(said, []);
        await close();
    });

    test('fits 380 pixels', async () => {
        const { page, close } = await open({ viewport: { width: 380, height: 800 } });
        const widthOf = () => page.evaluate(() => document.documentElement.scrollWidth);
        await tour(page, async (view) => {
            assert.equal(await widthOf(), 380, view);
            await page.locator('details').evaluateAll((tables) => tables.forEach((table) => { table.open = true; }));
            assert.equal(await widthOf(), 380, `${view}, every table open`);
            for (const frame of await drawings(page)) assert.ok(frame.n_svg === 1 && frame.n_shapes > 10, frame.name);
        });
        await close();
    });

    test('draws in the dark, and again when the reader changes over', async () => {
        const { page, said, close } = await open({ colorScheme: 'dark', view: 'quality' });
        const look = () => page.evaluate(() => ({
            page: getComputedStyle(document.body).backgroundColor,
            lines: [...document.querySelectorAll('figure[data-metric=recall] path[stroke-width="1.8"]')]
                .map((path) => path.getAttribute('stroke')),
        }));
        const dark = await look();
        for (const frame of await drawings(page)) assert.ok(frame.n_svg === 1 && frame.n_shapes > 10, frame.name);
        await page.emulateMedia({ colorScheme: 'light' });
        await page.waitForFunction((strokes) => ![...document.querySelectorAll('figure[data-metric=recall] path')]
            .some((path) => strokes.includes(path.getAttribute('stroke'))), dark.lines);
        const light = await look();
        assert.notEqual(light.page, dark.page);
        assert.equal(light.lines.length, dark.lines.length);
        assert.ok(light.lines.length > 0);
        light.lines.forEach((stroke, i) => assert.notEqual(stroke, dark.lines[i]));
        assert.deepEqual(said, []);
        await close();
    });
});
