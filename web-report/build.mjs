// build.mjs: bundles src/ into the one page that the program fills in and writes: `node build.mjs OUT`.
//
//   src/main.js          -> esbuild -> | <script>        |
//   src/charts/charts.js -> esbuild -> | packed: deflate | -> OUT, with the slots of src/template.html still open
//   src/styles.css       -> esbuild -> | <style>         |
//
// The charts' script is packed, because it is two thirds of the page's bytes and the first view does without; main.js runs it.
// The policy in the page allows these three by their hash and nothing else, from anywhere. Packages come from
// build/deps/web/node_modules, or from NODE_PATH.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const nodePaths = [...(process.env.NODE_PATH ?? '').split(delimiter).filter(Boolean).map((path) => resolve(path)),
                   resolve(here, '../build/deps/web/node_modules')];

const SLOTS = ['title', 'nav', 'sections', 'data'];

// What is bundled, and the notice that its licence wants in every copy: each report is one.
const NOTICES = [
    ['Apache ECharts (Apache License 2.0)', 'echarts/NOTICE'],
    ['d3, parts of it in Apache ECharts', 'echarts/licenses/LICENSE-d3'],
    ['zrender', 'zrender/LICENSE'],
    ['tslib', 'tslib/LICENSE.txt'],
];

function fail(sentence) {
    console.error(`build.mjs: ${sentence}`);
    process.exit(1);
}

function loadEsbuild() {
    const require = createRequire(import.meta.url);
    try {
        return require(require.resolve('esbuild', { paths: nodePaths }));
    } catch (error) {
        return fail(`esbuild is not in ${nodePaths.join(' or ')}: run \`python3 install_deps.py\` (${error.message})`);
    }
}

function bundle(esbuild, entry, options) {
    const result = esbuild.buildSync({
        entryPoints: [join(here, 'src', entry)], bundle: true, minify: true, write: false, charset: 'utf8',
        legalComments: 'none', nodePaths, logLevel: 'warning', ...options,
    });
    return result.outputFiles[0].text.trim();
}

function notices() {
    const texts = NOTICES.map(([title, file]) => {
        const path = nodePaths.map((folder) => join(folder, file)).find((candidate) => existsSync(candidate));
        if (path === undefined) fail(`${file} is not in ${nodePaths.join(' or ')}`);
        return `== ${title} ==\n${readFileSync(path, 'utf8').replaceAll('\r', '').trim()}`;
    });
    return `/*! The report's charts, packed in this page, hold beside its own code:\n\n`
        + `${texts.join('\n\n').replaceAll('*/', '* /')}\n*/`;
}

// Text inside <script> ends at the first </script, and <!-- changes how the rest is read. A browser reads CR LF as LF,
// and so would compute another hash.
function checkInline(name, text) {
    if (/<\/(script|style)|<!--|\r/i.test(text)) fail(`the bundled ${name} holds </script, </style, <!-- or a carriage return`);
}

const hash = (text) => `'sha256-${createHash('sha256').update(text, 'utf8').digest('base64')}'`;

function fill(template, mark, text) {
    const parts = template.split(mark);
    if (parts.length !== 2) fail(`src/template.html must hold ${mark} once, and holds it ${parts.length - 1} times`);
    return parts.join(text);
}

function main(out) {
    if (out === undefined) fail('usage: node build.mjs OUT');
    const esbuild = loadEsbuild();
    const script = bundle(esbuild, 'main.js', { format: 'iife', target: 'es2020', banner: { js: notices() } });
    const charts = bundle(esbuild, 'charts/charts.js', { format: 'iife', target: 'es2020' });
    const style = bundle(esbuild, 'styles.css', {});
    checkInline('script', script);
    checkInline('style', style);
    checkInline('charts', charts);

    let page = readFileSync(join(here, 'src/template.html'), 'utf8');
    page = fill(page, '%POLICY%', `default-src 'none'; script-src ${hash(script)} ${hash(charts)}; style-src ${hash(style)}; `
                                + `base-uri 'none'; form-action 'none'`);
    page = fill(page, '%STYLE%', style);
    page = fill(page, '%SCRIPT%', script);
    page = fill(page, '%CHARTS%', deflateRawSync(charts, { level: 9 }).toString('base64'));
    for (const slot of SLOTS) fill(page, `<!--adamas:${slot}-->`, '');

    mkdirSync(dirname(resolve(out)), { recursive: true });
    writeFileSync(`${out}.part`, page);
    renameSync(`${out}.part`, out);
}

main(process.argv[2]);
