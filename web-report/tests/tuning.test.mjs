// tuning.test.mjs: the report's view of a tuning session, from a real one.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { adamas, launch, openPage, skip, unfold } from './browser.mjs';

const PACK = `#include "adamas_plugin.h"
void adamas_pack(const uint8_t *codes, size_t n, uint32_t d, uint8_t *packed) {
    for (size_t i = 0; i < n * d / 4; i++)
        packed[i] = codes[4 * i] | codes[4 * i + 1] << 2 | codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6;
}
`;

describe('a tuning session in the report', { skip }, () => {
    let folder, url, browser;

    before(async () => {
        folder = mkdtempSync(join(tmpdir(), 'adamas-report-'));
        writeFileSync(join(folder, 'mine.c'), PACK);
        adamas(folder, 'tune', '--stage', 'pack', '--cap-ms', '50', '--db', 't.db', '--quiet', 'mine.c');
        adamas(folder, 'report', '--db', 't.db', '-o', 'report.html', '--quiet');
        url = pathToFileURL(join(folder, 'report.html')).href;
        browser = await launch();
    });

    after(async () => {
        await browser?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
    });

    test('a place per candidate, the floor, and a table', async () => {
        const { page, said, close } = await openPage(browser, url, { view: 'tuning' });
        const figure = page.locator('figure[data-plot="tuning"]');
        await figure.scrollIntoViewIfNeeded();
        const texts = await figure.locator('svg text').allTextContents();
        for (const name of ['reference', 'mine.c']) assert.ok(texts.includes(name), `${name} in ${texts}`);
        assert.match(await figure.locator('.chart').getAttribute('aria-label'), /times of [23] candidates/);
        assert.match(await figure.textContent(), /floor/);
        await unfold(page.locator('#tuning details'));
        const row = page.locator('table[aria-label="Candidates"] tbody tr', { hasText: 'mine.c' });
        assert.equal(await row.count(), 1);
        assert.match(await row.textContent(), /right/);
        assert.deepEqual(said, []);
        await close();
    });
});
