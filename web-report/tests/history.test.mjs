// history.test.mjs: the report's view of how figures changed, from invented runs whose top-k got 10% slower half-way.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, drawings, execute, launch, measured, openPage, skip, unfold } from './browser.mjs';

const HOSTILE = `</script><img src=x onerror=alert(1)>"&'`;
const N_RUNS = 16, CHANGED = 8;
const CONFIG = ['trace', 'policy', 'variant', 'n_q_heads', 'n_kv_heads', 'head_dim', 'dtype', 'seq_len', 'budget', 'batch',
                'launch'];

// Deterministic noise of up to 0.5%.
const noise = (i) => 1 + 0.005 * Math.sin(7.3 * i);

function runs() {
    return Array.from({ length: N_RUNS }, (_, i) => ({
        run: { run_uuid: `00000000-0000-4000-8000-0000000000${10 + i}`, label: `recorded:${HOSTILE}`, command: 'profile',
               status: 'complete', started_utc: `2026-01-${10 + i}T03:04:05.678Z`, tool_version: '0',
               git_commit: (i < CHANGED ? 'a' : 'b').repeat(40), argv: '[]', seed: 1, host_name: 'h', os: 'o', cpu_model: 'c',
               n_cpus: 1, memory_bytes: 1, compiler: 'cc', gpu_name: 'Invented GPU' },
        configs: [['topk', i < CHANGED ? 5000 : 5500, 64], ['dense', 90000, null]].map(([stage, ns, budget]) => ({
            config: [null, stage === 'dense' ? 'dense' : 'adamas', 'v', 8, 8, 64, 'F16', 4096, budget, 1, 'graph'],
            measurements: measured([['gpu', stage, null, null, 'time_ns', Number((ns * noise(i)).toPrecision(6))]]) })) }));
}

describe('the history in the report', { skip }, () => {
    let folder, database, url, browser;

    function write() {
        adamas(folder, 'report', '--db', database, '-o', 'report.html', '--quiet');
        return pathToFileURL(join(folder, 'report.html')).href;
    }

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        database = join(folder, 'own.db');
        writeFileSync(join(folder, 'runs.json'), JSON.stringify({
            format: 'adamas-runs/1', config_columns: CONFIG, traces: [], runs: runs(),
            metrics: [{ name: 'time_ns', unit: 'ns', better: 'lower', description: 'Duration' }] }));
        adamas(folder, 'db', 'import', 'runs.json', '--db', database, '--quiet');
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    test('recorded runs have no history here', async () => {
        url = write();
        const { page, close } = await openPage(browser, url);
        assert.equal(await page.locator('#history').count(), 0);
        await close();
    });

    test('shows the change, the commits between which it lies, and the levels', async () => {
        execute(database, `UPDATE run SET label = replace(label, 'recorded:', '')`);
        url = write();
        const { page, said, dialogs, close } = await openPage(browser, url, { view: 'history' });
        const rows = page.locator('#history details').first().locator('tbody tr');
        assert.equal(await rows.count(), 1);
        const text = await rows.first().textContent();
        assert.match(text, /topk, v, 4096 tokens, budget 64.*\+\d+\.\d\d worse.*aaaaaaaaaa\.\.bbbbbbbbbb.*2026-01-18/s);
        assert.match(text, /8, 8/);
        const change = parseFloat(text.match(/\+(\d+\.\d\d) worse/)[1]);
        assert.ok(Math.abs(change - 10) < 0.6, `${change}%`);
        const figure = page.locator('figure[data-plot=history]');
        assert.equal(await figure.locator('svg path[stroke-width="1.8"]').count(), 2, 'two levels');
        assert.equal(await figure.locator('svg path[stroke-width="1.4"]').count(), 1, 'one change');
        await figure.getByRole('combobox', { name: 'series' }).selectOption('1');
        assert.match(await figure.locator('[role=img]').getAttribute('aria-label'), /^dense, .*0 change points/);
        assert.equal(await figure.locator('svg path[stroke-width="1.4"]').count(), 0);
        await unfold(page.locator('#history details'));
        assert.equal(await page.locator('#history details').last().locator('tbody tr').count(), 2);
        assert.deepEqual([said, dialogs], [[], []]);
        await close();
    });

    test('fits 380 pixels in the dark, and reads without scripts', async () => {
        const narrow = await openPage(browser, url, {
            view: 'history', viewport: { width: 380, height: 800 }, colorScheme: 'dark' });
        await narrow.page.locator('details').evaluateAll((tables) => tables.forEach((table) => { table.open = true; }));
        assert.equal(await narrow.page.evaluate(() => document.documentElement.scrollWidth), 380);
        const [frame] = (await drawings(narrow.page)).filter((one) => one.name.startsWith('history'));
        assert.ok(frame.n_svg === 1 && frame.n_shapes > N_RUNS);
        await narrow.close();
        const still = await openPage(browser, url, { javaScriptEnabled: false });
        assert.ok(await still.page.locator('#history table').first().isVisible());
        await still.close();
    });

    test('says what somebody said of it, and leaves out what is ignored', async () => {
        const first = await openPage(browser, url, { view: 'history' });
        const id = await first.page.locator('#history details tbody th code').first().textContent();
        await first.close();
        adamas(folder, 'history', 'ack', id, '--who', 'me', '--why', HOSTILE, '--db', database);
        const { page, close } = await openPage(browser, write(), { view: 'history' });
        const row = page.locator('#history details').first().locator('tbody tr');
        assert.ok((await row.textContent()).includes(`acknowledged by me: ${HOSTILE}`));
        await close();
        adamas(folder, 'history', 'ack', id, '--who', 'me', '--why', 'noise', '--ignore', '--db', database);
        const again = await openPage(browser, write(), { view: 'history' });
        assert.match(await again.page.locator('#history').textContent(),
            /No series changed.*1 ignored|1 ignored.*No series changed/s);
        await again.close();
    });
});
