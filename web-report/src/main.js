// main.js: finds the frames that the program wrote and draws a chart into each.

import { element, Frame } from './frame.js';
import { drawHeads, drawable as headsOf, headControls } from './heads.js';
import { drawQuality, drawable as qualityOf } from './quality.js';
import { drawStages, drawable as stagesOf } from './stages.js';
import { onThemeChange, seriesLooks } from './theme.js';

const FORMAT = 'adamas-report/1';

function makeFrame(figure, report, looks) {
    const { plot, metric } = figure.dataset, session = Number(figure.dataset.session);
    if (plot === 'quality' && qualityOf(report, session, metric).length > 0)
        return new Frame(figure, (width) => drawQuality(report, looks, session, metric, width));
    if (plot === 'stages' && stagesOf(report, session).length > 0)
        return new Frame(figure, (width) => drawStages(report, session, width));
    if (plot === 'heads' && headsOf(report, session).length > 0) {
        let frame = null;
        const choice = headControls(report, session, figure, () => frame.redraw());
        frame = new Frame(figure, (width) => drawHeads(report, session, choice, width));
        return frame;
    }
    figure.append(element('p', 'nothing', 'Nothing to draw: none of these figures were measured.'));
    return null;
}

function main() {
    const report = JSON.parse(document.getElementById('adamas-data').textContent);
    if (report.format !== FORMAT)
        throw new Error(`the page's data is ${report.format}, and its script reads ${FORMAT}`);
    const looks = seriesLooks(report), frames = [];
    for (const figure of document.querySelectorAll('figure.plot')) {
        const frame = makeFrame(figure, report, looks);
        if (frame) frames.push(frame);
    }
    onThemeChange(() => frames.forEach((frame) => frame.redraw()));
}

main();
