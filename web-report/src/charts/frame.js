// frame.js: what the charts share: ECharts with only the parts in use, a frame's canvas, legend, tooltip and panels.

import * as echarts from 'echarts/core';
import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, TitleComponent, TooltipComponent } from 'echarts/components';
import { SVGRenderer } from 'echarts/renderers';

import { element, save } from '../dom.js';
import { FONT, isPrinting, theme } from './theme.js';

echarts.use([BarChart, CustomChart, LineChart, ScatterChart, GridComponent, TitleComponent, TooltipComponent,
             SVGRenderer]);

// Pixels between the margins of A4 or Letter: the page is laid out for paper only after the event that announces it.
const PAPER_WIDTH = 640;

// A legend: entries of { name, colour, mark }, where mark is a class of styles.css; a scale has `from` and a ramp of
// colours, and its name is at the far end.
function drawLegend(legend, entries) {
    legend.replaceChildren(...entries.map(({ name, colour, mark, from, ramp }) => {
        const swatch = element('span', `swatch ${mark}`);
        if (ramp) swatch.style.backgroundImage = `linear-gradient(to right, ${ramp.join(', ')})`;
        else swatch.style.color = colour;
        return element('li', '', ...(from ? [from] : []), swatch, name);
    }));
}

// A tooltip: a title and rows of [colour, name, value]; notes follow below.
export function tooltipBody(title, rows, notes = []) {
    const table = element('table', '');
    for (const [colour, name, ...values] of rows) {
        const swatch = element('span', 'swatch block');
        swatch.style.color = colour ?? 'transparent';
        table.append(element('tr', '', element('th', '', swatch, name),
                             ...values.map((value) => element('td', '', value))));
    }
    return element('div', 'tip', element('strong', '', title), table, ...notes.map((note) => element('p', '', note)));
}

// Panels side by side, as many in a row as fit, as { left, top, width, height } of each plotting area.
export function layPanels(n, width, { minWidth, height, left, right, top, bottom, maxColumns = 4 }) {
    const fit = Math.max(1, Math.min(n, maxColumns, Math.floor(width / minWidth)));
    const columns = Math.ceil(n / Math.ceil(n / fit));
    const cell = width / columns;
    const panels = Array.from({ length: n }, (_, i) => ({
        left: Math.round((i % columns) * cell + left), top: Math.floor(i / columns) * height + top,
        width: Math.round(cell - left - right), height: height - top - bottom,
    }));
    return { panels, height: Math.ceil(n / columns) * height };
}

export function baseOption() {
    const colours = theme();
    return {
        animation: false,
        textStyle: { fontFamily: FONT, fontSize: 11, color: colours.quiet },
        tooltip: { confine: true, transitionDuration: 0, className: 'tooltip', padding: 0,
                   borderWidth: 0, backgroundColor: 'transparent', extraCssText: 'box-shadow: none' },
    };
}

export function panelTitle(text, panel) {
    return { text, left: panel.left, top: panel.top - 24, padding: 0,
             textStyle: { fontFamily: FONT, fontSize: 12, fontWeight: 600, color: theme().text } };
}

export function axisLook() {
    const colours = theme();
    return {
        axisLine: { show: true, onZero: false, lineStyle: { color: colours.line } },
        axisTick: { show: true, length: 3, lineStyle: { color: colours.line } },
        axisLabel: { color: colours.quiet, fontSize: 11, hideOverlap: true },
        nameTextStyle: { color: colours.quiet, fontSize: 11 },
        splitLine: { show: true, lineStyle: { color: colours.grid } },
    };
}

// A chart inside a figure. `draw(width)` returns { option, height, legend, label, finding }; it is asked again whenever the
// width or the colours change.
export class Frame {
    constructor(figure, draw) {
        this.draw = draw;
        this.legend = element('ul', 'legend');
        this.canvas = element('div', 'chart');
        this.canvas.setAttribute('role', 'img');
        this.title = element('p', 'finding');
        figure.querySelector('figcaption')?.prepend(this.title);
        figure.append(this.legend, this.canvas);
        this.chart = null;
        this.width = 0;
        this.figure = figure;
        this.observer = new ResizeObserver(() => {
            if (!isPrinting() && Math.round(this.canvas.clientWidth) !== this.width) this.redraw();
        });
        this.observer.observe(this.canvas);
        this.redraw();
    }

    // A button that saves the chart as it stands.
    addTools() {
        const button = element('button', '', 'save SVG');
        button.type = 'button';
        button.addEventListener('click', () => {
            const svg = this.canvas.querySelector('svg');
            if (!svg) return;
            save(`${this.figure.dataset.plot}.svg`, 'image/svg+xml', new XMLSerializer().serializeToString(svg));
        });
        this.figure.append(element('div', 'tools', button));
    }

    dispose() {
        this.observer.disconnect();
        this.chart?.dispose();
        this.chart = null;
    }

    // The title: what the chart says.
    tell(words) {
        this.title.hidden = words === '';
        this.title.textContent = words && `${words}.`;
    }

    redraw() {
        this.width = isPrinting() ? PAPER_WIDTH : Math.round(this.canvas.clientWidth);
        if (this.width === 0) return;
        const { option, height, legend, label, finding } = this.draw(this.width);
        this.tell(finding ?? '');
        this.canvas.style.height = `${height}px`;
        this.canvas.setAttribute('aria-label', label);
        drawLegend(this.legend, legend);
        if (this.chart) this.chart.resize({ width: this.width, height });
        else this.chart = echarts.init(this.canvas, null, { renderer: 'svg', width: this.width, height });
        this.chart.setOption(option, { notMerge: true });
    }
}
