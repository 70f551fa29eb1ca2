// main.js: shows the view that was chosen. Charts are drawn by a script of their own (charts.js), which the page holds packed:
// most of its bytes are for a view that may never be opened.

import { element } from './dom.js';
import { chosen, keep, startState } from './state.js';
import { unpack } from './unpack.js';
import { Views } from './views.js';

const FORMAT = 'adamas-report/1';

// Runs the packed script. The page's policy allows it by its hash, like this one.
async function loadCharts() {
    const packed = Uint8Array.from(atob(document.getElementById('adamas-charts').textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
    const script = document.createElement('script');
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    script.remove();
    return globalThis.adamasCharts;
}

function main() {
    const report = unpack(JSON.parse(document.getElementById('adamas-data').textContent));
    if (report.format !== FORMAT)
        throw new Error(`the page's data is ${report.format}, and its script reads ${FORMAT}`);
    const views = new Views(report);
    startState(() => views.show());
    views.show();
    for (const [event, onPaper] of [['beforeprint', true], ['afterprint', false]])
        window.addEventListener(event, () => views.print(onPaper));
    // After the first view is on the screen, so that paper has charts too.
    requestAnimationFrame(() => setTimeout(async () => {
        try {
            const charts = await loadCharts();
            views.setCharts(charts(report, { chosen, keep, settingOf: (profile) => views.settingOf(profile) }));
            document.documentElement.dataset.charts = 'drawn';
        } catch (error) {
            document.querySelector('main').prepend(element('p', 'warning', 'This browser cannot draw the charts '
                + `(${error.message}). The tables hold every figure of them.`));
        }
    }));
}

main();
