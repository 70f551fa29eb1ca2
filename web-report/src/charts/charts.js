// charts.js: draws a chart into each frame that the program wrote. The page holds this script packed, and main.js runs it when
// the first chart is wanted.

import { drawable as budgetOf, drawBudget } from './budget.js';
import { counterControls, drawable as countersOf, drawCounters } from './counters.js';
import { drawable as decodeOf, drawDecode } from './decode.js';
import { element } from '../dom.js';
import { findingOf } from './findings.js';
import { Frame } from './frame.js';
import { choiceOf, chosenUnits, distinct, lengthControl, setSettingRule } from './gpu.js';
import { drawable as hasGpuStages, drawGpuStages } from './gpu_stages.js';
import { drawHeads, drawable as headsOf, headControls } from './heads.js';
import { drawable as historyOf, drawHistory, historyControls } from './history.js';
import { budgetControls, budgetRows, drawBudgets, drawPolicies, policyControls, policyRows } from './intervals.js';
import { drawPhases, drawable as phasesOf } from './phases.js';
import { drawQuality, drawable as qualityOf, qualityControls } from './quality.js';
import { drawable as hasRoofline, drawRoofline } from './roofline.js';
import { drawable as hasSpeedup, drawSpeedup } from './speedup.js';
import { drawable as servingOf, drawServing } from './serving.js';
import { setStageNames } from './stage_names.js';
import { drawStages, drawable as stagesOf } from './stages.js';
import { drawable as stepOf, drawStep, stepControls } from './step.js';
import { drawable as tasksOf, drawTasks, taskControls } from './tasks.js';
import { onThemeChange, seriesLooks, setPrinting } from './theme.js';
import { drawable as tuningOf, drawTuning } from './tuning.js';
import { axisOf, drawable as timelinesOf, drawTimeline, timelineControls } from './timeline.js';

// A drawing with the sentence that heads it.
const told = (drawn, report, plot, of) => ({ finding: findingOf(plot, report, of), ...drawn });

// A chart with controls of its own: `choose(controls, changed)` fills them and returns the choice, `draw(choice, width)`.
function makeChoiceFrame(figure, choose, draw) {
    let frame = null;
    const controls = element('div', 'controls');
    const choice = choose(controls, () => frame.redraw());
    if (controls.childElementCount > 0) figure.append(controls);
    frame = new Frame(figure, (width) => draw(choice, width));
    return frame;
}

// A chart of a session: what one run measured of one trace.
function makeSessionFrame(figure, report, looks) {
    const { plot, metric } = figure.dataset, session = Number(figure.dataset.session);
    if (plot === 'quality' && qualityOf(report, session, metric).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => qualityControls(report, session, metric, controls, changed),
                               (choice, width) => told(drawQuality(report, looks, session, metric, choice, width), report, plot,
                                                       { session, metric }));
    if (plot === 'policies' && policyRows(report, session).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => policyControls(report, session, controls, changed),
                               (choice, width) => told(drawPolicies(report, looks, session, choice, width), report, plot,
                                                       { session, choice }));
    if (plot === 'budget' && budgetOf(report, session).length > 0) {
        const gpu = 'gpu' in figure.dataset ? Number(figure.dataset.gpu) : null;
        return new Frame(figure, (width) => told(drawBudget(report, looks, session, gpu, width), report, plot,
                                                 { session, gpu }));
    }
    if (plot === 'budgets' && budgetRows(report, session).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => budgetControls(report, session, controls, changed),
                               (choice, width) => told(drawBudgets(report, looks, session, choice, width), report, plot,
                                                       { session, choice }));
    if (plot === 'stages' && stagesOf(report, session).length > 0)
        return new Frame(figure, (width) => told(drawStages(report, session, width), report, plot, { session }));
    if (plot === 'heads' && headsOf(report, session).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => headControls(report, session, controls, changed),
                               (choice, width) => told(drawHeads(report, session, choice, width), report, plot,
                                                       { session, choice }));
    return null;
}

// A chart that follows the setting chosen for its profile.
function makeSettingFrame(figure, report, profile, draw, byLength) {
    const controls = element('div', 'controls');
    if (byLength)
        lengthControl(report, profile, controls, distinct(chosenUnits(report, profile).map((unit) => unit.config.seq_len)));
    if (controls.childElementCount > 0) figure.append(controls);
    const frame = new Frame(figure, (width) => told(draw(report, profile, width), report, figure.dataset.plot, { profile }));
    choiceOf(report, profile).listeners = [() => frame.redraw()];
    return frame;
}

// A chart of a GPU profile.
function makeProfileFrame(figure, report) {
    const { plot } = figure.dataset, profile = Number(figure.dataset.profile);
    if (plot === 'speedup' && hasSpeedup(report, profile)) return makeSettingFrame(figure, report, profile, drawSpeedup, false);
    if (plot === 'gpu-stages' && hasGpuStages(report, profile))
        return makeSettingFrame(figure, report, profile, drawGpuStages, false);
    if (plot === 'roofline' && hasRoofline(report, profile))
        return makeSettingFrame(figure, report, profile, drawRoofline, true);
    if (plot === 'step' && stepOf(report, profile).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => stepControls(report, profile, controls, changed),
                               (choice, width) => drawStep(report, profile, choice, width));
    if (plot === 'phases' && phasesOf(report, profile).length > 0)
        return new Frame(figure, (width) => told(drawPhases(report, profile, width), report, plot, { profile }));
    if (plot === 'timeline' && timelinesOf(report, profile).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => timelineControls(report, profile, controls, changed),
                               (choice, width) => told(drawTimeline(report, profile, choice, width), report, plot,
                                                       { profile, choice, axisOf }));
    if (plot === 'counters' && countersOf(report, profile).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => counterControls(report, profile, controls, changed),
                               (choice, width) => told(drawCounters(report, profile, choice, width), report, plot,
                                                       { profile, choice }));
    return null;
}

// A chart of an evaluation: what one run measured with the model in the loop.
function makeTaskFrame(figure, report, looks) {
    const { metric } = figure.dataset, evaluation = Number(figure.dataset.evaluation);
    if (tasksOf(report, evaluation, metric).length === 0) return null;
    return makeChoiceFrame(figure, (controls, changed) => taskControls(report, evaluation, metric, controls, changed),
                           (choice, width) => drawTasks(report, looks, evaluation, metric, choice, width));
}

// A chart of a simulated serving engine.
function makeServingFrame(figure, report) {
    const serving = Number(figure.dataset.serving);
    return servingOf(report, serving).length === 0 ? null : new Frame(figure, (width) => drawServing(report, serving, width));
}

// A chart of whole models' decode steps.
function makeDecodeFrame(figure, report) {
    const decoding = Number(figure.dataset.decoding);
    return decodeOf(report, decoding).length === 0 ? null : new Frame(figure, (width) => told(
        drawDecode(report, decoding, width), report, 'decode', { decoding }));
}

// A chart of a tuning session.
function makeTuningFrame(figure, report) {
    const tuning = Number(figure.dataset.tuning);
    return tuningOf(report, tuning).length === 0 ? null : new Frame(figure, (width) => told(
        drawTuning(report, tuning, width), report, 'tuning', { tuning }));
}

// The chart of the history: of all runs.
function makeHistoryFrame(figure, report) {
    if (historyOf(report).length === 0) return null;
    return makeChoiceFrame(figure, (controls, changed) => historyControls(report, controls, changed),
                           (choice, width) => told(drawHistory(report, choice, width), report, 'history',
                                                   { choice, series: historyOf(report) }));
}

function makeFrame(figure, report, looks) {
    const frame = figure.dataset.plot === 'history' ? makeHistoryFrame(figure, report)
        : 'tuning' in figure.dataset ? makeTuningFrame(figure, report)
        : 'decoding' in figure.dataset ? makeDecodeFrame(figure, report)
        : 'serving' in figure.dataset ? makeServingFrame(figure, report)
        : 'profile' in figure.dataset ? makeProfileFrame(figure, report)
        : 'evaluation' in figure.dataset ? makeTaskFrame(figure, report, looks) : makeSessionFrame(figure, report, looks);
    if (!frame) figure.append(element('p', 'nothing', 'Nothing to draw: none of these figures were measured.'));
    return frame;
}

// A choice made in a chart is kept in the address; one that is there is made again.
function keepControls(figure, { chosen, keep }) {
    const { plot, metric } = figure.dataset;
    for (const control of figure.querySelectorAll('.controls select')) {
        const words = control.closest('label').firstChild.textContent.trim();
        const key = `${plot}${metric ? `-${metric}` : ''}.${words.replaceAll(' ', '-')}`, before = chosen(key);
        if (before !== undefined && [...control.options].some((option) => option.value === before)) {
            control.value = before;
            control.dispatchEvent(new Event('change'));
        }
        control.addEventListener('change', () => keep(key, control.value));
    }
}

// What main.js has of the charts. `reader` knows what was chosen: chosen(key), keep(key, value), settingOf(profile).
globalThis.adamasCharts = (report, reader) => {
    const looks = seriesLooks(report);
    let frames = [];
    setStageNames(report.stage_names);
    setSettingRule(reader.settingOf);
    onThemeChange(() => frames.forEach((frame) => frame.redraw()));
    return {
        draw(root, onPaper) {
            setPrinting(onPaper);
            for (const figure of root.querySelectorAll('figure.plot')) {
                const frame = makeFrame(figure, report, looks);
                if (!frame) continue;
                frames.push(frame);
                keepControls(figure, reader);
                frame.addTools();
            }
        },
        clear() {
            frames.forEach((frame) => frame.dispose());
            frames = [];
        },
    };
};
