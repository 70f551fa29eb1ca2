// gpu.test.mjs: the report's views of GPU profiles, from invented ones: no figure of theirs was measured anywhere.
//
//   two profiles written here as "adamas-runs/1" -> db import -> one database -> report -> headless Chromium
//     0  NVIDIA-like, label "recorded:", all views: times, counters, a timeline; one unit failed, one counter missing
//     1  another GPU with markup for names, times only

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, drawings, exact, goTo, launch, measured, openPage, query, skip, tour, unfold } from './browser.mjs';

const HOSTILE = `</script><img src=x onerror=alert(1)>"&'`;
const LIMIT = 4e12, LENGTHS = [8192, 32768], BUDGETS = [64, 4096], KV_HEADS = [32, 8];

const CONFIG = ['trace', 'policy', 'variant', 'n_q_heads', 'n_kv_heads', 'head_dim', 'dtype', 'seq_len', 'budget', 'batch',
                'n_sinks', 'n_recent', 'selection', 'cache', 'launch'];
const ACTIVITY = ['config', 'stage', 'step', 'kind', 'name', 'stream', 'start_ns', 'end_ns', 'registers',
                  'static_shared_bytes', 'dynamic_shared_bytes', 'grid_x', 'grid_y', 'grid_z', 'block_x', 'block_y', 'block_z'];
const EVENT = ['config', 'kind', 'name', 'variant', 'step', 'clock', 'start_ns', 'end_ns'];

const METRICS = [
    ['read_limit_bytes_per_s', 'bytes/s', 'Bandwidth'], ['time_ns', 'ns', 'Duration'], ['model_bytes', 'bytes', 'Traffic'],
    ['model_flops', '1', 'Arithmetic'], ['floor_ns', 'ns', 'Floor'], ['cold_l2_ratio', 'ratio', 'Coldness'],
    ['limit_ratio', 'ratio', 'Share of the limit'], ['median_ci_ratio', 'ratio', 'Confidence'],
    ['sm_clock_hz', 'Hz', 'SM clock'],
    ...['scan', 'cut', 'gather'].map((phase) => [`phase_${phase}_ns`, 'ns', `Phase ${phase}`]),
    ['throttled_ratio', 'ratio', 'Throttled readings'],
    ['dram__bytes_read.sum', 'bytes', 'Bytes read Caveat: by anybody <on the device>'],
    ['stall_long_scoreboard_share', 'ratio', 'Waiting for memory'], ['stall_barrier_share', 'ratio', 'Waiting for others'],
    ['dram_read_model_ratio', 'ratio', 'Bytes read over the model'], ['launch_gap_ns', 'ns', 'Gaps between kernels'],
].map(([name, unit, description]) => ({ name, unit, better: 'none', description }));

// A distribution of 20 values around the median.
const around = (median) => [20, median, ...[0.9, 0.91, 0.95, 0.96, 1, 1.04, 1.05, 1.09, 1.1].map((factor) =>
    Number((median * factor).toPrecision(6)))];

// One run of the file. Times are made so that the six stages lose to dense attention at 8,192 tokens and 4,096 of budget,
// and the fused step never does.
function makeRun(uuid, gpu, label, variant, isFull) {
    const configs = [], activities = [], events = [];
    const add = (config, measurements) => {
        const row = CONFIG.map((key) => config[key] ?? null), key = JSON.stringify(row);
        let at = configs.findIndex((one) => JSON.stringify(one.config) === key);
        if (at < 0) at = configs.push({ config: row, measurements: [] }) - 1;
        configs[at].measurements.push(...measured(measurements));
        return at;
    };
    const shape = (length, kv, rest) => ({ policy: 'adamas', n_q_heads: 32, n_kv_heads: kv, head_dim: 128, dtype: 'F16',
                                           seq_len: length, batch: 1, cache: 'cold', launch: 'graph', ...rest });
    const unit = (config, stage, ns, bytes, flops) => add(config, [
        ['gpu', stage, null, null, 'time_ns', ...around(ns)], ['model', stage, null, null, 'model_bytes', bytes],
        ['model', stage, null, null, 'model_flops', flops],
        ['model', stage, null, null, 'floor_ns', Number((bytes / LIMIT * 1e9).toPrecision(6))],
        ...(stage === 'attention' ? [['model', stage, null, null, 'cold_l2_ratio', 1.5]] : []),
        ['gpu', stage, null, null, 'limit_ratio', ...around(Number((bytes / LIMIT / ns * 1e9).toPrecision(6)))],
        ['gpu', stage, null, null, 'median_ci_ratio', 0.0025],
        ['gpu', stage, null, null, 'sm_clock_hz', ...around(1.98e9)],
        ['gpu', stage, null, null, 'throttled_ratio', stage === 'dense' ? 0.25 : 0]]);
    add({ policy: 'device', variant: 'read', n_q_heads: 1, n_kv_heads: 1, head_dim: 128, dtype: 'F16', seq_len: 0, batch: 1,
          cache: 'cold', launch: 'stream' }, [['gpu', null, null, null, 'read_limit_bytes_per_s', LIMIT]]);
    for (const length of LENGTHS) for (const kv of KV_HEADS) {
        const none = (name, rest = {}) => shape(length, kv, { variant: name, ...rest });
        const by = (name, budget) => none(name, { budget, n_sinks: 0, n_recent: 0, selection: 'head' });
        for (const [stage, ns] of [['hadamard', 900], ['bucket', 700], ['pack', 600], ['append', 1300]])
            unit(none(variant), stage, ns, 30720, stage === 'append' ? 0 : 40960);
        unit(none('l1'), 'distance', 2000 + length / 4, length * kv * 32, length * 32 * 128);
        unit(none('split', { policy: 'dense' }), 'dense', length === 8192 ? 30000 : 130000, length * kv * 512, length * 16384);
        for (const budget of BUDGETS) {
            unit(by('cluster', budget), 'topk', 6000, length * 64, length * 32);
            unit(by('cluster', budget), 'attention', 4000 + 4 * budget, budget * 16384, budget * 16384);
            unit(by('six', budget), 'step', 18000 + 4 * budget, length * kv * 32 + budget * 16384, length * 4096);
            if (kv === 8 && budget === 64 && isFull)
                add(by('fused', budget),
                    [['gpu', 'step', null, null, 'time_ns', 'failed', 'head 0: relative error 1.5 <limit>']]);
            else unit(by('fused', budget), 'step', 10000 + 4 * budget, length * kv * 32 + budget * 16384, length * 4096);
        }
    }
    if (isFull) addObservations({ add, shape, activities, events });
    const run = { run_uuid: uuid, label, command: 'profile', status: 'complete', started_utc: '2026-01-02T03:04:05.678Z',
                  tool_version: '0', git_commit: 'a'.repeat(40), argv: '[]', seed: 1, host_name: 'h', os: 'o', cpu_model: 'c',
                  n_cpus: 1, memory_bytes: 1, compiler: 'cc', gpu_name: gpu, cuda_version: '13.0', driver_version: '1.2' };
    return { run, calibrations: [], configs, events, activities };
}

// Counters of two stages, the phases of a step of one launch, and a step of three kernels traced four times, the third of
// median length.
function addObservations({ add, shape, activities, events }) {
    const stream = (name, rest) => shape(32768, 32, { variant: name, launch: 'stream', ...rest });
    const budget = { budget: 64, n_sinks: 0, n_recent: 0, selection: 'head' };
    add(stream('l1'), [['gpu', 'distance', null, null, 'dram__bytes_read.sum', 33890304],
                       ['gpu', 'distance', null, null, 'stall_long_scoreboard_share', 0.75],
                       ['gpu', 'distance', null, null, 'stall_barrier_share', 0.125],
                       ['gpu', 'distance', null, null, 'dram_read_model_ratio', 1.01]]);
    add(stream('cluster', budget), [
        ['gpu', 'topk', null, null, 'dram__bytes_read.sum', 'skipped', 'insufficient privileges <35>'],
        ['gpu', 'topk', null, null, 'stall_long_scoreboard_share', 0.25],
        ['gpu', 'topk', null, null, 'stall_barrier_share', 0.5]]);
    const phases = [['scan', 4000], ['cut', 1000], ['gather', 2000]];
    add(shape(32768, 32, { variant: 'fused', ...budget }), phases.map(([phase, ns]) =>
        ['gpu', 'step', null, null, `phase_${phase}_ns`, ...around(ns)]));
    const config = add(stream('six', budget), [['gpu', 'step', null, null, 'launch_gap_ns', 1500]]);
    for (const [step, longer] of [9000, 0, 300, 100].entries()) {
        let at = 100000 * step;
        for (const [stage, ns, gap] of [['distance', 5000 + longer, 0], ['topk', 3000, 1000], ['attention', 2000, 500]]) {
            at += gap;
            activities.push([config, stage, step, 'kernel', `${stage}_kernel<128>`, 7, at, at + ns, 40, 0, 1024, 132, 2, 1,
                             256, 1, 1]);
            at += ns;
        }
        events.push([config, 'step', 'step', 'six', step, 'gpu', 100000 * step, at]);
    }
}

describe('GPU profiles in the report', { skip }, () => {
    let folder, database, url, browser;

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        database = join(folder, 'gpu.db');
        const runs = [makeRun('00000000-0000-4000-8000-000000000001', 'Invented GPU', 'recorded:invented', 'separate', true),
                      makeRun('00000000-0000-4000-8000-000000000002', HOSTILE, `recorded:${HOSTILE}`, HOSTILE, false)];
        writeFileSync(join(folder, 'runs.json'), JSON.stringify({
            format: 'adamas-runs/1', config_columns: CONFIG, activity_columns: ACTIVITY, event_columns: EVENT, traces: [],
            metrics: METRICS, runs }));
        adamas(folder, 'db', 'import', 'runs.json', '--db', database, '--quiet');
        adamas(folder, 'report', '--db', database, '-o', 'report.html', '--quiet');
        url = pathToFileURL(join(folder, 'report.html')).href;
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    const open = (options) => openPage(browser, url, options);
    const FRAMES = ['speedup 0 ', 'speedup 1 ', 'step 0 ', 'step 1 ', 'gpu-stages 0 ', 'gpu-stages 1 ', 'roofline 0 ',
                    'roofline 1 ', 'phases 1 ', 'timeline 1 ', 'counters 1 '];
    // The hostile GPU was imported last and has the same date, so it comes first.
    const FULL = 1;

    test('has a section, an entry and a chart for what there is, and none for what is not', async () => {
        const { page, said, requested, dialogs, close } = await open();
        assert.deepEqual(await page.locator('nav a').allTextContents(),
                         ['Verdict', 'Differences', 'Time', 'Limits', 'Speed-up', 'Sessions', 'Counters', 'Claims',
                          'Provenance']);
        assert.deepEqual(await page.locator('section').evaluateAll((all) => all.map((one) => one.id)),
                         ['verdict', 'differences', 'time', 'limits', 'speedup', 'summary', 'counters', 'claims',
                          'provenance']);
        const frames = [];
        await tour(page, async () => frames.push(...await drawings(page)));
        assert.deepEqual(new Set(frames.map((frame) => frame.name)), new Set(FRAMES));
        for (const frame of frames) {
            assert.equal(frame.n_svg, 1, frame.name);
            assert.ok(frame.n_shapes >= 5, `${frame.name}: ${frame.n_shapes} shapes`);
            assert.ok(frame.label.length > 20, `${frame.name}: label "${frame.label}"`);
        }
        assert.equal(await page.locator('img, [onerror]').count(), 0);
        await goTo(page, 'gpu?gpu=2');
        assert.ok((await page.locator('#gpu .part h3').first().textContent()).includes(HOSTILE));
        assert.deepEqual([said, dialogs, requested], [[], [], [url]]);
        await close();
    });

    test('says what was recorded elsewhere, and with which figures it stands', async () => {
        const { page, close } = await open({ view: 'gpu?gpu=1&beside=2' });
        assert.deepEqual(await page.locator('#gpu .badge').allTextContents(), Array(2).fill('recorded on another machine'));
        const about = await page.locator('#gpu').textContent();
        assert.match(about, /nothing here was measured on this one/);
        assert.match(about, /4\.00 TB\/s in the same run/);
        assert.match(about, /SM clock 1782 to 2178 MHz, 4 of 54 units throttled/);
        await goTo(page, 'summary');
        const summary = await page.locator('#summary').textContent();
        assert.match(summary,
            /At 32,768 cached tokens and a budget of 64, a whole step \(fused\) takes 10\.3 µs \(median, n = 20/);
        assert.match(summary, /dense attention known \(split\) 130 µs .*: 12\.7 times as long/);
        await close();
    });

    test('shows every unit with its floor, its share of the limit, or why it failed', async () => {
        const { page, close } = await open({ view: 'gpu?gpu=1&setting=1' });
        const stored = await query(database, `SELECT m.stage, c.variant, c.seq_len, c.budget, m.median FROM measurement m
            JOIN config c USING (config_id) JOIN metric k USING (metric_id)
            WHERE k.name = 'time_ns' AND m.run_id = 1 AND c.n_kv_heads = 8 AND m.status = 'ok'`);
        const title =
            '32 query heads, 8 KV heads, d = 128, F16, batch 1, select per head, cold L2, graph launches, random inputs';
        const table = page.locator('#gpu details').filter({ hasText: title }).last();
        await unfold(table);
        const shown = await table.locator('tbody tr').evaluateAll((rows) => rows.map((row) => {
            const whole = (cell) => (/\d/.test(cell.textContent) ? Number(cell.textContent.replaceAll(',', '')) : null);
            return [row.cells[0].textContent, row.cells[1].firstChild.textContent.trim(), whole(row.cells[2]),
                    whole(row.cells[3]),
                    row.cells[4].colSpan === 1 ? 1e3 * parseFloat((row.cells[4].dataset.exact ?? row.cells[4].textContent)
                        .replaceAll(',', '')) : row.cells[4].textContent];
        }));
        const sorted = (rows) => rows.map((row) => JSON.stringify(row)).sort();
        assert.equal(stored.length, 26);
        assert.deepEqual(sorted(shown.filter((row) => typeof row[4] === 'number')), sorted(stored));
        assert.deepEqual(shown.filter((row) => typeof row[4] !== 'number').map((row) => row[4]),
                         Array(2).fill('failed: head 0: relative error 1.5 <limit>'));
        const dense = table.locator('tbody tr', { hasText: 'dense' }).last(), bytes = 32768 * 8 * 512;
        const cells = (await dense.locator('td').evaluateAll(
            (all) => all.map((cell) => cell.dataset.exact ?? cell.textContent)))
            .map(exact);
        assert.ok(Math.abs(1e3 * cells[8] - bytes / LIMIT * 1e9) < 1e-4 * 1e3 * cells[8], `floor ${cells[8]} us`);
        assert.ok(Math.abs(cells[9] / 100 - bytes / LIMIT / 130000 * 1e9) < 1e-4, `share ${cells[9]} %`);
        assert.match(await dense.textContent(), /0\.25.*20\s*⚠/);
        assert.equal(await table.locator('tbody td', { hasText: /^cluster partly warm$/ }).count(), 4);
        await close();
    });

    test('draws the break-even line only where a gain meets a loss', async () => {
        const { page, said, close } = await open({ view: 'speedup?gpu=1' });
        const figure = page.locator(`figure[data-plot=speedup][data-profile="${FULL}"]`);
        assert.equal(await figure.locator('svg path[stroke-width="3"]').count(), 2, 'left of and below one losing cell');
        assert.match(await figure.locator('.legend').textContent(), /break-even/);
        const gains = (await figure.locator('svg text').allTextContents())
            .filter((text) => /^\d+\.\d+$/.test(text)).map(Number);
        const expected = [[10000, 4], [18000, 4]].flatMap(([base, per]) => [30000, 130000].flatMap((dense) =>
            BUDGETS.map((budget) => dense / (base + per * budget))));
        assert.equal(gains.length, expected.length);
        expected.sort((a, b) => a - b).forEach((gain, i) =>
            assert.ok(Math.abs(gain - gains.sort((a, b) => a - b)[i]) < 0.06, `${gain} and ${gains[i]}`));
        const cell = figure.locator('svg text', { hasText: /^0\.87$/ });
        await cell.hover({ force: true });
        const tip = await figure.locator('.tip').textContent();
        assert.match(tip, /budget 4,096 of 8,192 tokens.*slower than dense.*n = 20/s);
        assert.deepEqual(said, []);
        await close();
    });

    test('lets the reader choose heads once for every chart, and keeps the choice in the address', async () => {
        const { page, said, close } = await open({ view: 'speedup?gpu=1' });
        const svg = (plot) => page.locator(`figure[data-plot=${plot}][data-profile="${FULL}"] svg`).innerHTML();
        const before = await svg('speedup'), setting = page.locator('#speedup').getByRole('combobox', { name: 'setting' });
        assert.deepEqual(await setting.locator('option').allTextContents(), ['32 KV heads', '8 KV heads']);
        await setting.selectOption({ label: '8 KV heads' });
        assert.notEqual(await svg('speedup'), before);
        assert.match(await page.evaluate(() => window.location.hash), /^#speedup\?gpu=1&setting=1$/);
        assert.match(await page.locator('#speedup summary').first().textContent(), /8 KV heads/);
        for (const [view, plot] of [['time', 'gpu-stages'], ['limits', 'roofline']]) {
            await page.locator(`nav a[href="#${view}"]`).click();
            const setting = page.locator(`#${view}`).getByRole('combobox', { name: 'setting' });
            assert.equal(await setting.locator('option:checked').textContent(),
                         '8 KV heads');
            const chosen = await svg(plot);
            await page.locator(`#${view}`).getByRole('combobox', { name: 'setting' }).selectOption({ label: '32 KV heads' });
            assert.notEqual(await svg(plot), chosen);
            await page.locator(`#${view}`).getByRole('combobox', { name: 'setting' }).selectOption({ label: '8 KV heads' });
        }
        assert.deepEqual(said, []);
        await close();
    });

    test('puts two GPUs side by side', async () => {
        const { page, said, close } = await open({ view: 'speedup' });
        await page.getByRole('combobox', { name: 'GPU', exact: true }).selectOption('1');
        await page.getByRole('combobox', { name: 'beside it' }).selectOption('2');
        const frames = await drawings(page);
        assert.deepEqual(frames.map((frame) => frame.name), ['speedup 1 ', 'speedup 0 ']);
        const boxes = await page.locator('#speedup .part').evaluateAll(
            (all) => all.map((one) => one.getBoundingClientRect().top));
        assert.equal(boxes[0], boxes[1], 'in one row');
        assert.deepEqual(said, []);
        await close();
    });

    test('shows counters by stage with unit, meaning and caveat, or the reason', async () => {
        const { page, close } = await open({ view: 'counters' });
        const text = await page.locator('#counters').textContent();
        assert.match(text, /33,890,304/);
        assert.match(text, /insufficient privileges <35>/);
        const row = page.locator('#counters details').first().locator('tbody tr', { hasText: 'dram__bytes_read.sum' });
        const cells = await row.locator('td').allTextContents();
        assert.deepEqual(cells.slice(0, 4), ['bytes', '1', '33,890,304', '–1']);
        const glossary = page.locator('#counters details').last();
        await unfold(glossary);
        const meaning = await glossary.locator('tbody tr', { hasText: 'dram__bytes_read.sum' }).locator('td').allTextContents();
        assert.deepEqual(meaning, ['bytes', 'Bytes read', 'by anybody <on the device>']);
        await close();
    });

    test('shows the step of median length, its kernels and gaps', async () => {
        const { page, close } = await open({ view: 'timeline' });
        await unfold(page.locator('#timeline details'));
        const rows = await page.locator('#timeline details tbody tr').evaluateAll((all) => all.map((row) =>
            [0, 9, 6, 7, 8].map((i) => row.cells[i].dataset.exact ?? row.cells[i].textContent)));
        assert.deepEqual(rows, [['six', 'distance', '0', '5.1', '0'], ['six', 'topk', '6.1', '3', '1'],
                                ['six', 'attention', '9.6', '2', '0.5']]);
        const figure = page.locator('figure[data-plot=timeline]');
        assert.match(await figure.locator('svg').textContent(), /six: 11\.6 µs, of it 1\.50 µs gaps/);
        await figure.locator('.chart').hover({ position: { x: 300, y: 44 } });
        await figure.locator('.tip').waitFor();
        assert.match(await figure.locator('.tip').textContent(),
            /distance_kernel<128>.*264 blocks of 256 threads, 40 registers/s);
        await close();
    });

    test('without scripts shows every table', async () => {
        const { page, requested, close } = await open({ javaScriptEnabled: false });
        assert.equal(await page.locator('figure.plot svg').count(), 0);
        assert.equal(await page.locator('figure.plot').count(), FRAMES.length);
        assert.ok(await page.locator('#gpu table.stages').first().isVisible());
        assert.ok(await page.locator('#speedup table').first().isVisible());
        assert.ok(await page.locator('#counters table').first().isVisible());
        assert.match(await page.locator('#speedup table').first().textContent(), /12\.7 fused/);
        assert.deepEqual(requested, [url]);
        await close();
    });

    for (const [scheme, width] of [['light', 380], ['dark', 380], ['dark', 1280]])
        test(`fits ${width} pixels and draws in the ${scheme}`, async () => {
            const { page, said, close } = await open({ viewport: { width, height: 800 }, colorScheme: scheme });
            await tour(page, async (view) => {
                await page.locator('details').evaluateAll((tables) => tables.forEach((table) => { table.open = true; }));
                assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width, view);
                for (const frame of await drawings(page)) assert.ok(frame.n_svg === 1 && frame.n_shapes >= 5, frame.name);
            });
            assert.deepEqual(said, []);
            await close();
        });
});
