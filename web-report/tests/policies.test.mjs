// policies.test.mjs: policies side by side, adaptive budgets and task-level results, from invented figures.
//
//   a replay of five policies and an evaluation, written here as "adamas-runs/1" -> db import -> report -> headless Chromium

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, drawings, goTo, launch, measured, openPage, skip, tour, unfold } from './browser.mjs';

const CONFIG = ['trace', 'policy', 'variant', 'n_q_heads', 'n_kv_heads', 'head_dim', 'dtype', 'seq_len', 'budget', 'batch',
                'launch'];
const POLICIES = [['oracle', 'exact'], ['adamas', 'l1 calibrated'], ['adamas', '<b>l2</b>'], ['quest', 'pages of 16'],
                  ['streaming', '4 sinks']];
const TARGETS = ['budget_for_mass_0.99', 'budget_for_output_rel_l2_0.05'];
const PERPLEXITY = ['nll', 'perplexity', 'perplexity_ci95_low', 'perplexity_ci95_high', 'perplexity_ratio',
                    'perplexity_ratio_ci95_low', 'perplexity_ratio_ci95_high'];
const PASSKEY = ['passkey_accuracy', 'passkey_accuracy_ci95_low', 'passkey_accuracy_ci95_high'];

const metric = (name, unit, better) => ({ name, unit, better, description: `About ${name}` });
const trace = (name, kind, hash) => ({ xxh128: hash.repeat(32), name, kind, model: 'Invented model', file_bytes: 1,
                                       n_tokens: 5000, n_steps: 32, n_layers: 2, n_q_heads: 4, n_kv_heads: 2,
                                       head_dim: 64, softmax_scale: 0.125,
                                       metadata: '{}' });
const TRACES = [trace('a.safetensors', 'real', 'a'), trace('2 texts', 'real', 'b'), trace('one.txt', 'real', 'c'),
                trace('passkey', 'synthetic', 'd')];

const run = (digit, command, configs) => ({
    run: { run_uuid: `00000000-0000-4000-8000-00000000000${digit}`, label: 'recorded:invented', command, status: 'complete',
           started_utc: '2026-01-02T03:04:05.678Z', tool_version: '0', git_commit: '0', argv: '[]', seed: 1,
           host_name: 'h', os: 'o',
           cpu_model: 'c', n_cpus: 1, memory_bytes: 1, compiler: 'cc', gpu_reason: 'none used' }, configs });

const config = (hash, policy, variant, budget, measurements) => ({
    config: [hash.repeat(32), policy, variant, 4, 2, 64, 'F32', 4096, budget, 1, 'host'],
    measurements: measured(measurements) });

// A distribution around the median; `key` steps make the policies differ.
const around = (median) => [1000, median, ...[0.5, 0.6, 0.7, 0.8, 1, 1.1, 1.15, 1.2, 1.25].map((factor) =>
    Number((median * factor).toPrecision(6)))];

function replay() {
    const configs = [];
    for (const [i, [policy, variant]] of POLICIES.entries()) {
        for (const budget of [64, 512]) configs.push(config('a', policy, variant, budget, [
            ['host', null, null, null, 'recall', ...around(0.8 - 0.1 * i)], ['host', null, 0, 3, 'recall', 0.2],
            ['host', null, null, null, 'mass', ...around(0.75 - 0.1 * i)],
            ['host', null, null, null, 'output_rel_l2', ...around(0.1 * (i + 1) * 64 / budget)]]));
        configs.push(config('a', policy, variant, null, TARGETS.map((name, t) =>
            ['host', null, null, null, name, ...around(100 * (i + 1) * (t + 1))])));
    }
    return run(1, 'replay', configs);
}

function evaluation() {
    const values = (names, figures) => names.map((name, i) => ['host', null, null, null, name, figures[i]]);
    const configs = [];
    for (const hash of ['b', 'c']) {
        configs.push(config(hash, 'dense', '', null, values(PERPLEXITY.slice(0, 4), [2, 7.4, 7, 7.8])));
        for (const [i, [policy, variant]] of POLICIES.slice(1).entries())
            for (const budget of [64, 512])
                configs.push(config(hash, policy, variant, budget, values(PERPLEXITY, [
                    2.1, 7.5 + i, 7.1 + i, 7.9 + i, 1 + 0.2 * i, 0.98 + 0.2 * i, 1.03 + 0.2 * i])));
    }
    for (const [i, [policy, variant]] of POLICIES.slice(1).entries())
        configs.push(config('d', policy, variant, policy === 'quest' ? 32 : 64, [
            ['host', null, null, null, 'passkey_accuracy', 40, 1 - 0.25 * i, 0, 0, 0, 0, 1, 1, 1, 1, 1],
            ...values(PASSKEY.slice(1), [0.9 - 0.25 * i, 1 - 0.2 * i])]));
    return run(2, 'evaluate', configs);
}

describe('policies and tasks in the report', { skip }, () => {
    let folder, url, browser;

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        writeFileSync(join(folder, 'runs.json'), JSON.stringify({
            format: 'adamas-runs/1', config_columns: CONFIG, traces: TRACES, runs: [replay(), evaluation()],
            metrics: [...['recall', 'mass'].map((name) => metric(name, 'ratio', 'higher')),
                      metric('output_rel_l2', 'ratio', 'lower'),
                      ...TARGETS.map((name) => metric(name, 'tokens', 'lower')),
                      ...PERPLEXITY.map((name) => metric(name, '1', 'lower')),
                      ...PASSKEY.map((name) => metric(name, 'ratio', 'higher'))] }));
        adamas(folder, 'db', 'import', 'runs.json', '--db', 'own.db', '--quiet');
        adamas(folder, 'report', '--db', 'own.db', '-o', 'report.html', '--quiet');
        url = pathToFileURL(join(folder, 'report.html')).href;
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    const open = (options) => openPage(browser, url, options);

    test('has a section and a chart for each, and says nothing', async () => {
        const { page, said, requested, close } = await open();
        assert.deepEqual(await page.locator('nav a').allTextContents(),
                         ['Verdict', 'Differences', 'Budget', 'Sessions', 'Quality', 'Tasks', 'Claims', 'Provenance']);
        const frames = [];
        await tour(page, async () => frames.push(...await drawings(page)));
        assert.deepEqual(new Set(frames.map((frame) => frame.name.trim())), new Set([
            'policies 0', 'quality 0 recall', 'quality 0 mass', 'quality 0 output_rel_l2', 'budgets 0', 'budget 0',
            'tasks 0 perplexity_ratio', 'tasks 0 passkey_accuracy']));
        for (const frame of frames) {
            assert.ok(frame.n_svg === 1 && frame.n_shapes >= 2, `${frame.name}: ${frame.n_shapes} shapes`);
            assert.ok(frame.label.length > 20, frame.name);
        }
        assert.deepEqual([said, requested], [[], [url]]);
        await close();
    });

    test('shows policies side by side with their spread, at the budget chosen', async () => {
        const { page, said, close } = await open({ view: 'quality' });
        const figure = page.locator('figure[data-plot=policies]');
        const before = await figure.locator('svg').innerHTML();
        assert.equal(await figure.getByRole('combobox', { name: 'budget' }).inputValue(), '512', 'an eighth of the context');
        const titles = ['recall', 'softmax mass', 'output error'];
        const texts = await figure.locator('svg text').allTextContents();
        for (const title of titles) assert.ok(texts.includes(title), title);
        for (const [policy, variant] of POLICIES) assert.ok(texts.some((text) => text === `${policy} ${variant}`), variant);
        await figure.getByRole('combobox', { name: 'budget' }).selectOption('64');
        assert.notEqual(await figure.locator('svg').innerHTML(), before);
        await figure.getByText('adamas l1 calibrated').first().scrollIntoViewIfNeeded();
        const label = await figure.locator('svg text', { hasText: 'adamas l1 calibrated' }).boundingBox();
        await page.mouse.move(label.x + label.width + 60, label.y + label.height / 2);
        await figure.locator('.tip').waitFor();
        const tip = await figure.locator('.tip').textContent();
        assert.match(tip, /adamas l1 calibrated.*70\.00 %.*56\.00 % to 77\.00 %.*49\.00 % to 80\.50 %.*20\.00 %\s+L0 h3/s);
        assert.match(tip, /20\.00 %\s+L0 h3.*budget 64 of 4,096.*n = 1,000/s);
        assert.deepEqual(said, []);
        await close();
    });

    test('draws the band of one policy where there are too many for all', async () => {
        const { page, close } = await open({ view: 'quality' });
        const figure = page.locator('figure[data-plot=quality][data-metric=recall]');
        assert.equal(await figure.locator('svg path[stroke-width="1.8"]').count(), POLICIES.length);
        assert.equal(await figure.locator('svg path[fill-opacity="0.07"], svg path[opacity="0.07"]').count(), 1);
        assert.equal(await figure.getByRole('combobox', { name: 'spread' }).inputValue(), 'adamas <b>l2</b>');
        await close();
    });

    test('shows the smallest budgets that reach a target, and leaves them out of the other tables', async () => {
        const { page, close } = await open({ view: 'budgets' });
        const figure = page.locator('figure[data-plot=budgets]');
        const texts = await figure.locator('svg text').allTextContents();
        assert.ok(texts.includes('mass \u2265 99 %') && texts.includes('output error \u2264 5 %'), texts.join('|'));
        await unfold(page.locator('#budgets details'));
        const rows = await page.locator('#budgets details').first().locator('tbody tr').evaluateAll((all) => all.map((row) =>
            [row.cells[0].textContent, row.cells[2].textContent, row.cells[7].dataset.exact ?? row.cells[7].textContent]));
        assert.deepEqual(rows.map((row) => row[1]), Array(POLICIES.length).fill('sought'));
        assert.deepEqual(rows.map((row) => parseFloat(row[2])).sort((a, b) => a - b), [100, 200, 300, 400, 500]);
        await goTo(page, 'quality');
        assert.equal(await page.locator('#quality summary', { hasText: 'budget_for' }).count(), 0);
        await close();
    });

    test('shows perplexity and passkeys with their intervals, real and made-up texts apart', async () => {
        const { page, said, close } = await open({ view: 'tasks' });
        await unfold(page.locator('#tasks details'));
        const perplexity = page.locator('figure[data-plot=tasks][data-metric=perplexity_ratio]');
        const titles = (await perplexity.locator('svg text').allTextContents()).filter((text) => /text|txt/.test(text));
        assert.deepEqual(titles, ['2 texts', 'one.txt']);
        assert.equal(await perplexity.locator('svg path[stroke-width="1.8"]').count(), 2 * (POLICIES.length - 1));
        const passkeys = await page.locator('figure[data-plot=tasks][data-metric=passkey_accuracy] svg text').allTextContents();
        assert.ok(passkeys.includes('passkey') && !passkeys.includes('2 texts'));
        const cell = page.locator('#tasks details').first().locator('tbody tr').nth(1).locator('td').last();
        assert.equal(await cell.textContent(), '1.2 1.18 to 1.23');
        const found = page.locator('#tasks details').last().locator('tbody tr').first();
        assert.match(await found.textContent(), /synthetic.*<b>l2<\/b>.*4075\.00 65\.00 to 80\.00/s);
        const noted = (table) => table.evaluate((one) => [one.textContent.includes('quest pages of 16\u00a0*'),
                                                           one.textContent.includes('* quest below a budget of 48')]);
        assert.deepEqual(await noted(page.locator('#tasks details').first()), [false, false], 'budgets of 64 and 512');
        assert.deepEqual(await noted(page.locator('#tasks details').last()), [true, true], 'a budget of 32');
        const box = await perplexity.locator('.chart').boundingBox();
        await perplexity.locator('.chart').hover({ position: { x: 80, y: box.height / 2 } });
        await perplexity.locator('.tip').waitFor();
        assert.match(await perplexity.locator('.tip').textContent(), /budget 64 of 4,096.*1\.200.*1\.180 to 1\.230/s);
        assert.deepEqual(said, []);
        await close();
    });

    test('without scripts has every table, and fits 380 pixels in the dark', async () => {
        const still = await open({ javaScriptEnabled: false });
        assert.equal(await still.page.locator('figure.plot svg').count(), 0);
        assert.equal(await still.page.locator('#tasks table').count(), 2);
        assert.equal(await still.page.locator('#budgets table').count(), 2);
        assert.deepEqual(await still.page.locator('#summary ul.best li').allTextContents(), [[64, '20.00'], [512, '2.50']].map(
            ([budget, error]) => `Best measured at budget ${budget}, 4,096 tokens: the default, adamas l1 `
                + `calibrated: ${error}% `
                + 'median output error; n = 1,000; of 4 selections'));
        await still.close();
        const { page, said, close } = await open({ viewport: { width: 380, height: 800 }, colorScheme: 'dark' });
        await tour(page, async (view) => {
            await page.locator('details').evaluateAll((tables) => tables.forEach((table) => { table.open = true; }));
            assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 380, view);
            for (const frame of await drawings(page)) assert.ok(frame.n_svg === 1 && frame.n_shapes >= 2, frame.name);
        });
        assert.deepEqual(said, []);
        await close();
    });
});
