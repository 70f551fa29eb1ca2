// pictures.test.mjs: README's pictures are taken anew, and what they say is compared with what the committed ones said.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { root, skip } from './browser.mjs';
import { PICTURES, takePictures } from './pictures.mjs';

const MOST_BYTES = 250e3; // a README should open at once

test('the pictures in README say what the report says now', { skip }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'adamas-pictures-'));
    try {
        const words = await takePictures(folder), committed = JSON.parse(readFileSync(join(PICTURES, 'words.json'), 'utf8'));
        const readme = readFileSync(join(root, 'README.md'), 'utf8');
        assert.deepEqual(words, committed, 'the pictures are stale: `ninja pictures` takes them anew');
        for (const name of Object.keys(words)) {
            assert.ok(words[name].length > 20, name);
            assert.ok(statSync(join(folder, `${name}.png`)).size > 20e3, `${name} is empty`);
            assert.ok(statSync(join(PICTURES, `${name}.png`)).size < MOST_BYTES, `${name} is large`);
            assert.ok(readme.includes(`web-report/pictures/${name}.png`), `README does not show ${name}`);
        }
    } finally {
        rmSync(folder, { recursive: true, force: true });
    }
});
