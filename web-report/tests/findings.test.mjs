// findings.test.mjs: the sentences above the charts say no more than the figures. Needs no browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { findingOf } from '../src/charts/findings.js';

// Rows of the document name their configuration by number.
const document = (list, rows) => ({ profiles: [{}], settings: { [-1]: {} }, configs: rows.map((row) => row.config),
                                    [list]: rows.map((row, i) => ({ ...row, config: i })) });
const step = (variant, budget, median) => ({ profile: 0, stage: 'step', median, status: 'ok',
                                             config: { variant, seq_len: 8192, budget, setting: 0 } });
const steps = (...pairs) => document('units', pairs.flatMap(([six, one], i) => [step('six', i, six), step('fused', i, one)]));
const decoded = (model, gain) => ({ decoding: 0, status: 'ok', model, gain, budget: 256, seq_len: 8192, batch: 1,
                                    median: 1e6 });
const kernel = (variant, start_ns, end_ns) => ({ profile: 0, start_ns, end_ns, config: { variant } });

test('a range with losses in it is not what something wins by', () => {
    const of = { profile: 0 };
    assert.equal(findingOf('gpu-stages', steps([142, 100], [98, 100]), of),
                 'One launch beats six kernels at 1 of 2 lengths and budgets; over all it is 0.98 to 1.42 times as fast');
    assert.equal(findingOf('gpu-stages', steps([142, 100], [110, 100]), of),
                 'One launch beats six kernels at all 2 lengths and budgets, by 1.10 to 1.42 times');
});

test('the least gain is of the model that has it', () => {
    const says = (...rows) => findingOf('decode', { decoded: rows }, { decoding: 0 });
    assert.match(says(decoded('large', 3), decoded('small', 1.01)), /^large: .* the least gain is 1\.01 times .*, of small$/);
    assert.match(says(decoded('large', 3), decoded('large', 1.01)), /budget 256$/);
});

test('steps without gaps are one sentence', () => {
    const of = { profile: 0, choice: {}, axisOf: () => undefined };
    const says = (...rows) => findingOf('timeline', document('timelines', rows), of);
    assert.equal(says(kernel('six', 0, 5), kernel('six', 4, 9), kernel('fused', 0, 7)), 'No step spends time in launch gaps');
    assert.equal(says(kernel('six', 0, 5), kernel('six', 6, 10), kernel('fused', 0, 7)),
                 'six spends 10% of 10 ns in launch gaps; fused spends no time in launch gaps');
});
