// format.test.mjs: the intervals of ratios of few timings, by the same cases as tests/core/stats/test_ratio.c. Needs no
// browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ratioInterval, shareInterval } from '../src/charts/format.js';

const row = (n, rest = {}) => ({ n, median: 100, p10: 90, p90: 120, median_ci_ratio: 0.1, ...rest });

test('enough timings on both sides need no interval', () => {
    assert.deepEqual(ratioInterval(row(20), row(50)), []);
    assert.deepEqual(shareInterval(row(20), 50), []);
    assert.equal(ratioInterval(row(19), row(50)).length, 1);
    assert.equal(ratioInterval(row(50), row(19)).length, 1);
});

test('the medians\u2019 intervals give opposite ends', () => {
    assert.deepEqual(ratioInterval(row(50, { median: 300 }), row(6)),
        ['2.45 to 3.67 times, from the medians\u2019 95% intervals']);
    assert.deepEqual(shareInterval(row(6), 50), ['45.45 to 55.56 % of the read limit, from the medians\u2019 95% intervals']);
});

test('p10 and p90 stand in where a median has no interval', () => {
    for (const few of [row(5), row(19, { median_ci_ratio: null })])
        assert.deepEqual(ratioInterval(few, row(20)), ['0.75 to 1.33 times, from p10 and p90']);
});

test('what has neither says so', () => {
    for (const few of [row(1), { n: 19, median: 100, p10: null, p90: null, median_ci_ratio: null }]) {
        assert.deepEqual(ratioInterval(row(20), few), ['n < 20, no interval']);
        assert.deepEqual(shareInterval(few, 50), ['n < 20, no interval']);
    }
});
