// findings.js: the title of a chart: what its figures say, in one sentence, for the choice that is drawn. Charts without an
// entry say it themselves (step.js), or have only a caption.

import { compact, count, duration, times } from './format.js';
import { chosenUnits, findUnit, headlineOf, rowsOf } from './gpu.js';

const largest = (rows, value) => rows.reduce((a, b) => (a === null || value(b) > value(a) ? b : a), null);
const percent = (share) => `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))}%`;
const listed = (words) => (words.length < 2 ? words.join('')
    : `${words.slice(0, -1).join(', ')} and ${words[words.length - 1]}`);
const isUsable = (row) => !['dense', 'oracle', 'random'].includes(row.policy);

function ofGpuStages(report, { profile }) {
    const units = chosenUnits(report, profile), steps = units.filter((unit) => unit.stage === 'step');
    const pairs = steps.filter((unit) => unit.config.variant === 'six').flatMap((six) => {
        const one = largest(steps.filter((unit) => unit.config.variant !== 'six' && !/ /.test(unit.config.variant)
            && unit.config.seq_len === six.config.seq_len && unit.config.budget === six.config.budget), (unit) => -unit.median);
        return one ? [six.median / one.median] : [];
    });
    if (pairs.length === 0) return '';
    const n = pairs.filter((gain) => gain > 1).length;
    const range = `${times(Math.min(...pairs))} to ${times(Math.max(...pairs))} times`;
    return n === pairs.length ? `One launch beats six kernels at all ${n} lengths and budgets, by ${range}`
        : `One launch beats six kernels at ${n} of ${pairs.length} lengths and budgets; over all it is ${range} as fast`;
}

function ofRoofline(report, { profile }) {
    const { seq_len, budget } = headlineOf(report, profile), units = chosenUnits(report, profile)
        .filter((unit) => unit.config.seq_len === seq_len && [null, budget].includes(unit.config.budget) && unit.limit_ratio);
    const names = (list) => listed([...new Set(list.map((unit) => unit.stage))]);
    const best = [...new Set(units.map((unit) => unit.stage))].map((stage) =>
        largest(units.filter((unit) => unit.stage === stage), (unit) => unit.limit_ratio));
    const near = best.filter((unit) => unit.limit_ratio >= 0.8);
    const far = largest(best.filter((unit) => ['distance', 'topk', 'attention'].includes(unit.stage)),
                        (unit) => -unit.limit_ratio);
    return [near.length > 0 ? `At the read limit: ${names(near)}` : 'No stage is at the read limit',
            far && far.limit_ratio < 0.8 ? `farthest from it: ${far.stage}, ${percent(far.limit_ratio)}` : '']
        .filter(Boolean).join('; ');
}

function ofPhases(report, { profile }) {
    const rows = rowsOf(report, 'phases', profile), first = rows[0];
    const own = rows.filter((row) => row.config === first.config), sum = own.reduce((total, row) => total + row.median, 0);
    const most = largest(own, (row) => row.median);
    return `Most time goes to ${most.phase}: ${percent(most.median / sum)} of a ${first.config.variant} step at ${
        count(first.config.seq_len)} tokens`;
}

function ofSpeedup(report, { profile }) {
    const units = chosenUnits(report, profile), gains = [];
    for (const step of units.filter((unit) => unit.stage === 'step' && unit.config.variant !== 'six')) {
        const dense = findUnit(units, 'dense', step.config.seq_len, null);
        if (dense) gains.push({ gain: dense.median / step.median, ...step.config });
    }
    if (gains.length === 0) return '';
    const best = largest(gains, (one) => one.gain), worst = largest(gains, (one) => -one.gain);
    const n = gains.filter((one) => one.gain >= 1).length;
    const at = (one) => `${times(one.gain)} times at ${compact(one.seq_len)} tokens, budget ${compact(one.budget)}`;
    return `A step of one launch is faster than dense attention in ${n} of ${gains.length} cases: from ${at(worst)} to ${
        at(best)}`;
}

function ofStages(report, { session }) {
    const rows = report.stages.filter((row) => row.session === session && row.metric === 'time_ns' && row.status === 'ok');
    const seq_len = Math.max(...rows.map((row) => row.seq_len)), here = rows.filter((row) => row.seq_len === seq_len);
    const budgets = [...new Set(here.map((row) => row.budget).filter(Boolean))].sort((a, b) => a - b);
    const budget = budgets.includes(256) ? 256 : budgets[Math.floor(budgets.length / 2)];
    const of = (stage) => largest(here.filter((row) => row.stage === stage && [null, budget].includes(row.budget)),
                                  (row) => -row.median);
    const stages = [...new Set(here.map((row) => row.stage))].filter((stage) => !['step', 'dense'].includes(stage)).map(of);
    const most = largest(stages.filter(Boolean), (row) => row.median), step = of('step'), dense = of('dense');
    if (!most) return '';
    const sum = stages.reduce((total, row) => total + (row?.median ?? 0), 0);
    return `At ${count(seq_len)} tokens and a budget of ${count(budget)}, ${most.stage} takes ${percent(most.median / sum)} of `
        + `the stages\u2019 time${step && dense
            ? `; the step is ${times(dense.median / step.median)} times as fast as dense` : ''}`;
}

// Rows of one metric of a session, at its longest length.
function atLongest(report, session, metric) {
    const rows = report.quality.filter((row) => row.session === session && row.metric === metric && row.status === 'ok'
                                                && row.budget !== null);
    const seq_len = Math.max(...rows.map((row) => row.seq_len));
    return rows.filter((row) => row.seq_len === seq_len);
}

// What a step costs at this budget on the GPU shown: "; a step takes 22.9 µs, 5.51 times as fast as dense".
// Steps that rank keys as the policy does, or else those by L1, which the sentence then says.
function costOf(report, gpu, budget, series) {
    if (gpu === null) return '';
    const units = chosenUnits(report, gpu), { seq_len } = headlineOf(report, gpu);
    const dense = findUnit(units, 'dense', seq_len, null);
    const metric = /^adamas (asym4|dot|xor)\b/.exec(series)?.[1] ?? null;
    const ranksBy = (unit) => / (asym4|dot|xor)$/.exec(unit.config.variant)?.[1] ?? null;
    const steps = units.filter((unit) => unit.stage === 'step' && unit.config.seq_len === seq_len
        && unit.config.budget === budget);
    const fastest = (wanted) => largest(steps.filter((unit) => ranksBy(unit) === wanted), (unit) => -unit.median);
    const own = fastest(metric), step = own ?? fastest(null);
    if (!step) return '';
    const gain = dense ? `, ${times(dense.median / step.median)} times as fast as dense attention,` : '';
    return `. A step${own ? '' : ' by l1'} takes ${duration(step.median)}${gain} at ${compact(seq_len)} tokens`;
}

function ofBudget(report, { session, gpu }) {
    const rows = atLongest(report, session, 'output_rel_l2').filter(isUsable);
    for (const target of [0.05, 0.1, 0.2]) {
        const within = rows.filter((row) => row.median <= target).sort((a, b) => a.budget - b.budget || a.median - b.median)[0];
        if (within)
            return `${count(within.budget)} tokens are the smallest budget within ${percent(target)} output error: `
                + `${within.series} loses ${percent(within.median)}, its worst head ${
                    within.worst_mean === null ? 'is not known' : percent(within.worst_mean)}${
                    costOf(report, gpu, within.budget, within.series)}`;
    }
    return rows.length > 0 ? 'No budget measured keeps the output error within 20%' : '';
}

const MEANING = { recall: ['selects', 'of the exact top-k', 1], mass: ['holds', 'of the softmax mass', 1],
                  output_rel_l2: ['loses', 'of the output', -1] };

// The best policy at 256 tokens, or at the budget in the middle, and the exact top-k's figure beside it.
function ofQuality(report, { session, metric }) {
    const rows = atLongest(report, session, metric), [verb, what, sign] = MEANING[metric] ?? [];
    if (!verb) return '';
    const budgets = [...new Set(rows.map((row) => row.budget))].sort((a, b) => a - b);
    const budget = budgets.includes(256) ? 256 : budgets[Math.floor(budgets.length / 2)];
    return bestAt(rows.filter((row) => row.budget === budget), verb, what, sign, budget);
}

function bestAt(rows, verb, what, sign, budget) {
    const best = largest(rows.filter(isUsable), (row) => sign * row.median);
    const oracle = rows.find((row) => row.policy === 'oracle');
    if (!best) return '';
    return `${best.series} ${verb} ${percent(best.median)} ${what} at a budget of ${count(budget)} of ${
        count(best.seq_len)} tokens${
        oracle && what !== 'of the exact top-k' ? `, the exact top-k ${percent(oracle.median)}` : ''}, the best of ${
        rows.filter(isUsable).length}`;
}

function ofPolicies(report, { session, choice }) {
    const rows = report.quality.filter((row) => row.session === session && row.metric === 'output_rel_l2' && row.status === 'ok'
        && row.seq_len === choice.seq_len && row.budget === choice.budget);
    return bestAt(rows, ...MEANING.output_rel_l2, choice.budget);
}

function ofHeads(report, { session, choice }) {
    const matrices = report.heads.filter((one) => one.session === session
        && ['metric', 'series', 'seq_len'].every((key) => one[key] === choice[key]));
    const middle = matrices.find((one) => one.budget === 256) ?? matrices[Math.floor(matrices.length / 2)];
    if (!middle) return '';
    const cells = middle.mean.flatMap((heads, row) => heads.flatMap((mean, head) => (mean === null ? []
        : [{ mean, head, layer: middle.layers[row] }])));
    const sign = choice.metric === 'output_rel_l2' ? 1 : -1, worst = largest(cells, (cell) => sign * cell.mean);
    const mean = cells.reduce((sum, cell) => sum + cell.mean, 0) / cells.length;
    return `Head ${worst.head} of layer ${worst.layer} is the worst at a budget of ${count(middle.budget)}: ${
        percent(worst.mean)}, where the mean is ${percent(mean)}`;
}

function ofBudgets(report, { session, choice }) {
    const rows = report.quality.filter((row) => row.session === session && row.metric.startsWith('budget_for_')
        && row.status === 'ok' && row.seq_len === choice.seq_len && isUsable(row));
    const best = largest(rows.filter((row) => row.metric === rows[0].metric), (row) => -row.median);
    return best ? `${best.series} needs ${count(Math.round(best.median))} of ${count(best.seq_len)} tokens in the median, its `
        + `worst head ${best.worst_mean === null ? 'is not known' : count(Math.round(best.worst_mean))}` : '';
}

// What a warp waits for, in words, with the hardware's own name behind.
const WAITS = { long_scoreboard: 'memory', short_scoreboard: 'shared memory', barrier: 'other warps at a barrier',
                wait: 'instructions of a fixed latency', mio_throttle: 'the queue to shared memory',
                lg_throttle: 'the queue to memory', math_pipe_throttle: 'an arithmetic pipe', membar: 'a memory fence',
                no_instruction: 'its next instruction', not_selected: 'its turn', sleeping: 'the end of a sleep' };

function waitOf(metric) {
    const name = metric.replace(/^stall_/, '').replace(/_share$/, ''), own = name.replaceAll('_', ' ');
    return WAITS[name] ? `${WAITS[name]} (${own})` : own;
}

function ofCounters(report, { profile, choice }) {
    const isShare = (name) => name.startsWith('stall_') && name.endsWith('_share');
    const rows = rowsOf(report, 'counters', profile).filter((row) => row.config.seq_len === Number(choice.place.split(' ')[0])
        && (row.config.budget === null || row.config.budget === choice.budget) && Object.keys(row.value).some(isShare));
    const pick = ['topk', 'step', 'attention', 'distance'].map((stage) => rows.find((row) => row.stage === stage))
        .find(Boolean);
    const shares = pick ? Object.entries(pick.value).filter(([name]) => isShare(name)) : [];
    const most = largest(shares, ([, value]) => value);
    return most ? `${pick.stage} (${pick.config.variant}) waits for ${waitOf(most[0])} more than for anything else: ${
        percent(most[1])} of its stalls` : '';
}

function ofTimeline(report, { profile, choice, axisOf }) {
    const rows = rowsOf(report, 'timelines', profile).filter((row) => axisOf(row) === choice.axis);
    const gaps = [...new Set(rows.map((row) => row.config.variant))].map((variant) => {
        const own = rows.filter((row) => row.config.variant === variant).sort((a, b) => a.start_ns - b.start_ns);
        let until = 0, gap = 0;
        for (const row of own) {
            if (until > 0) gap += Math.max(0, row.start_ns - until);
            until = Math.max(until, row.end_ns);
        }
        const share = gap > 0 ? `${percent(gap / until)} of ${duration(until)}` : 'no time';
        return { gap, says: `${variant} spends ${share} in launch gaps` };
    });
    if (gaps.length > 1 && gaps.every(({ gap }) => gap === 0)) return 'No step spends time in launch gaps';
    return gaps.map(({ says }) => says).join('; ');
}

function ofDecode(report, { decoding }) {
    const rows = report.decoded.filter((row) => row.decoding === decoding && row.status === 'ok' && row.gain > 0
        && row.budget !== null);
    const best = largest(rows, (row) => row.gain), worst = largest(rows, (row) => -row.gain);
    if (!best) return '';
    const at = (row) => `${times(row.gain)} times at ${compact(row.seq_len)} tokens, batch ${row.batch}, budget ${
        compact(row.budget)}`;
    return rows.length === 1 ? `${best.model} decodes ${at(best)} as fast as with dense attention`
        : `${best.model}: a token takes ${duration(best.median)} in place of ${duration(best.median * best.gain)} at best (${
            at(best)}); the least gain is ${at(worst)}${worst.model !== best.model ? `, of ${worst.model}` : ''}`;
}

function ofTuning(report, { tuning }) {
    const rows = report.candidates.filter((row) => row.tuning === tuning && row.median_ns !== null);
    const own = largest(rows.filter((row) => row.kind !== 'row'), (row) => -row.median_ns);
    const ours = largest(rows.filter((row) => row.kind === 'row'), (row) => -row.median_ns);
    if (!own || !ours) return '';
    const gain = ours.median_ns / own.median_ns;
    return `${own.name} is ${gain >= 1 ? `${times(gain)} times as fast as` : `${times(1 / gain)} times slower than`} `
        + `the registry\u2019s ${ours.name}`;
}

function ofHistory(report, { choice, series }) {
    const one = series[choice.index], change = one.changes[one.changes.length - 1];
    const values = one.points.map((point) => point[1]), low = Math.min(...values), high = Math.max(...values);
    if (!change)
        return `No change of level in ${one.points.length} runs; they lie within ${percent(low > 0 ? high / low - 1 : 0)}`;
    return `${change.is_worse ? 'Worse' : 'Better'} by ${percent(Math.abs(change.after / change.before - 1))} since ${
        change.started_utc.slice(0, 10)}`;
}

const FINDINGS = { 'gpu-stages': ofGpuStages, roofline: ofRoofline, phases: ofPhases, speedup: ofSpeedup, stages: ofStages,
                   budget: ofBudget, quality: ofQuality, policies: ofPolicies, heads: ofHeads, budgets: ofBudgets,
                   counters: ofCounters, timeline: ofTimeline, tuning: ofTuning, decode: ofDecode, history: ofHistory };

// The sentence for a chart, or nothing where its figures do not say enough.
export function findingOf(plot, report, of) {
    return FINDINGS[plot]?.(report, of) || '';
}
