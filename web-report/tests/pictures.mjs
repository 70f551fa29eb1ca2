// pictures.mjs: README's pictures of the report, from the recorded profiles and the bundled trace alone, so that they are the
// same on every machine. `node web-report/tests/pictures.mjs` (or `ninja pictures`) writes them anew.
//
//     web-report/pictures/NAME.png, words.json: what each picture says, by which pictures.test.mjs knows a stale one

import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { adamas, launch, openPage, root } from './browser.mjs';

export const PICTURES = join(root, 'web-report/pictures');

// What is shown: a view, and how much of it. Wide enough for a screen, few enough pixels for a README.
const SHOTS = { time: { view: 'time', height: 1010 }, budget: { view: 'budget', height: 740 } };

// Run numbers and dates of replays differ from run to run.
const steady = (text) => text.replace(/run \d+/g, 'run N').replace(/\d{4}-\d\d-\d\d \d\d:\d\d UTC/g, 'DATE')
    .replace(/\s+/g, ' ').trim();

// Titles, legends, axes and advice of the part of the view in the picture; not the tables, whose last digits are a machine's.
const wordsOf = (page, view) => page.locator(`#${view} :is(h2, .finding, .legend li, figure svg text, .advice td)`)
    .evaluateAll((all) => all.filter((one) => one.getBoundingClientRect().top < window.innerHeight)
        .map((one) => one.textContent));

// Takes the pictures into a folder; returns what each says.
export async function takePictures(folder) {
    const work = mkdtempSync(join(tmpdir(), 'adamas-pictures-')), words = {};
    const browser = await launch();
    try {
        const recorded = join(root, 'analysis/recorded');
        adamas(work, 'db', 'import', ...readdirSync(recorded).filter((name) => name.endsWith('.json'))
            .map((name) => join(recorded, name)), '--db', 'p.db', '--quiet');
        adamas(work, 'replay', join(root, 'traces/smollm2-135m-kjv.safetensors'), '--policies',
               'dense,oracle,adamas,adamas:metric=asym4,quest,streaming', '--budgets', '16,32,64,128,256,512,1024',
               '--seq-lens', '4096', '--db', 'p.db', '--quiet');
        adamas(work, 'report', '--db', 'p.db', '-o', 'p.html', '--quiet');
        mkdirSync(folder, { recursive: true });
        for (const [name, { view, height }] of Object.entries(SHOTS)) {
            const { page, close } = await openPage(browser, pathToFileURL(join(work, 'p.html')).href,
                                                   { view, viewport: { width: 1180, height } });
            words[name] = (await wordsOf(page, view)).map(steady).filter(Boolean);
            await page.screenshot({ path: join(folder, `${name}.png`) });
            await close();
        }
    } finally {
        await browser.close();
        rmSync(work, { recursive: true, force: true });
    }
    return words;
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
    const words = await takePictures(PICTURES);
    writeFileSync(join(PICTURES, 'words.json'), `${JSON.stringify(words, null, 1)}\n`);
    console.log(`${Object.keys(words).map((name) => join('web-report/pictures', `${name}.png`)).join(', ')}: written`);
}
