// serving.test.mjs: the report's view of simulated serving, from a real simulation.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, goTo, launch, openPage, skip, unfold } from './browser.mjs';

const WORDS = 'rate=0.1,duration=300,input_tokens=32768,output_tokens=50';

describe('simulated serving in the report', { skip }, () => {
    let folder, url, browser;

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        adamas(folder, 'simulate', '--model', 'llama-2-7b', '--generate', WORDS, '--budgets', '64,4096', '--memory', 'both',
               '--db', 's.db', '--quiet');
        adamas(folder, 'simulate', '--validate', '--db', 's.db', '--quiet');
        adamas(folder, 'report', '--db', 's.db', '-o', 'report.html', '--quiet');
        url = pathToFileURL(join(folder, 'report.html')).href;
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    test('a panel per figure and a place per case', async () => {
        const { page, said, close } = await openPage(browser, url, { view: 'serving' });
        const figure = page.locator('figure[data-plot="serving"]');
        await figure.scrollIntoViewIfNeeded();
        const texts = await figure.locator('svg text').allTextContents();
        for (const title of ['Time to the first token', 'Time per token after it', 'Answer tokens per second'])
            assert.ok(texts.includes(title), title);
        assert.ok(!texts.includes('Output error of a replay'), 'there is no replay in the database');
        for (const name of ['dense', '64', '4K', 'paged', 'contiguous']) assert.ok(texts.includes(name), name);
        assert.match(await figure.locator('.chart').getAttribute('aria-label'), /for 6 cases/);
        assert.deepEqual(said, []);
        await close();
    });

    test('whole models: a panel per model and batch, bars by part and a tick for the prediction', async () => {
        const { page, said, close } = await openPage(browser, url, { view: 'decode' });
        const figure = page.locator('figure[data-plot="decode"]');
        await figure.scrollIntoViewIfNeeded();
        const texts = await figure.locator('svg text').allTextContents();
        for (const text of ['llama-2-7b, batch 1', 'llama-3.1-8b, batch 32', 'dense', '256', '128K', '12.4 ms'])
            assert.ok(texts.some((one) => one.includes(text)), text);
        assert.deepEqual(await figure.locator('.legend li').allTextContents(),
                         ['attention', 'matrix products', 'rest', 'predicted']);
        assert.deepEqual(said, []);
        await close();
    });

    test('the tables hold every case, rule and error', async () => {
        const { page, close } = await openPage(browser, url, { view: 'serving' });
        await unfold(page.locator('#serving details'));
        const rows = (title) => page.locator(`table[aria-label="${title}"] tbody tr`).count();
        assert.equal(await rows('Latency, throughput and memory'), 6);
        assert.ok(await rows('By which rule each part was predicted') > 12);
        assert.ok(await rows('Errors on held-out timings') > 10);
        await goTo(page, 'decode');
        await unfold(page.locator('#decode details'));
        assert.ok(await rows('Decode steps of whole models') > 30);
        await goTo(page, 'claims');
        assert.ok(await rows('Claims of the paper') >= 6);
        await close();
    });
});
