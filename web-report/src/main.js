// main.js: finds the frames that the program wrote and draws a chart into each.

import { counterControls, drawable as countersOf, drawCounters } from './counters.js';
import { element, Frame } from './frame.js';
import { choiceOf, distinct, fits, lengthControl, rowsOf, settingControl } from './gpu.js';
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
import { drawable as tasksOf, drawTasks, taskControls } from './tasks.js';
import { onThemeChange, seriesLooks } from './theme.js';
import { drawable as tuningOf, drawTuning } from './tuning.js';
import { drawable as timelinesOf, drawTimeline, timelineControls } from './timeline.js';

const FORMAT = 'adamas-report/1';

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
                               (choice, width) => drawQuality(report, looks, session, metric, choice, width));
    if (plot === 'policies' && policyRows(report, session).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => policyControls(report, session, controls, changed),
                               (choice, width) => drawPolicies(report, looks, session, choice, width));
    if (plot === 'budgets' && budgetRows(report, session).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => budgetControls(report, session, controls, changed),
                               (choice, width) => drawBudgets(report, looks, session, choice, width));
    if (plot === 'stages' && stagesOf(report, session).length > 0)
        return new Frame(figure, (width) => drawStages(report, session, width));
    if (plot === 'heads' && headsOf(report, session).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => headControls(report, session, controls, changed),
                               (choice, width) => drawHeads(report, session, choice, width));
    return null;
}

// A chart that follows the setting chosen for its profile; only settings with whole steps are offered.
function makeSettingFrame(figure, report, profile, draw, byLength) {
    const units = rowsOf(report, 'units', profile);
    const controls = settingControl(report, profile, figure, (setting) =>
        units.some((unit) => unit.stage === 'step' && fits(setting, unit.config)));
    if (byLength) lengthControl(report, profile, controls, distinct(units.map((unit) => unit.config.seq_len)));
    const frame = new Frame(figure, (width) => draw(report, profile, width));
    choiceOf(report, profile).listeners.push(() => frame.redraw());
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
    if (plot === 'phases' && phasesOf(report, profile).length > 0)
        return new Frame(figure, () => drawPhases(report, profile));
    if (plot === 'timeline' && timelinesOf(report, profile).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => timelineControls(report, profile, controls, changed),
                               (choice, width) => drawTimeline(report, profile, choice, width));
    if (plot === 'counters' && countersOf(report, profile).length > 0)
        return makeChoiceFrame(figure, (controls, changed) => counterControls(report, profile, controls, changed),
                               (choice, width) => drawCounters(report, profile, choice, width));
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

// A chart of a tuning session.
function makeTuningFrame(figure, report) {
    const tuning = Number(figure.dataset.tuning);
    return tuningOf(report, tuning).length === 0 ? null : new Frame(figure, (width) => drawTuning(report, tuning, width));
}

// The chart of the history: of all runs.
function makeHistoryFrame(figure, report) {
    if (historyOf(report).length === 0) return null;
    return makeChoiceFrame(figure, (controls, changed) => historyControls(report, controls, changed),
                           (choice, width) => drawHistory(report, choice, width));
}

function makeFrame(figure, report, looks) {
    const frame = figure.dataset.plot === 'history' ? makeHistoryFrame(figure, report)
        : 'tuning' in figure.dataset ? makeTuningFrame(figure, report)
        : 'serving' in figure.dataset ? makeServingFrame(figure, report)
        : 'profile' in figure.dataset ? makeProfileFrame(figure, report)
        : 'evaluation' in figure.dataset ? makeTaskFrame(figure, report, looks) : makeSessionFrame(figure, report, looks);
    if (!frame) figure.append(element('p', 'nothing', 'Nothing to draw: none of these figures were measured.'));
    return frame;
}

function main() {
    const report = JSON.parse(document.getElementById('adamas-data').textContent);
    if (report.format !== FORMAT)
        throw new Error(`the page's data is ${report.format}, and its script reads ${FORMAT}`);
    setStageNames(report.stage_names);
    const looks = seriesLooks(report), frames = [];
    for (const figure of document.querySelectorAll('figure.plot')) {
        const frame = makeFrame(figure, report, looks);
        if (frame) frames.push(frame);
    }
    onThemeChange(() => frames.forEach((frame) => frame.redraw()));
}

main();
