// theme.js: colours of the charts, light and dark, and which policy has which.
//
// Lines: Okabe and Ito's palette, told apart under the common colour blindnesses; each also has a symbol of its own.
// Stages: Tol's muted palette, so that no stage is taken for a policy. Stalls: Tol's bright one. Heat, gain and loss: ramps
// of one direction in lightness each.

const LIGHT = {
    text: '#1c2430', quiet: '#5b6675', line: '#c9d0d9', grid: '#e8ebef', surface: '#ffffff', exact: '#3a4350',
    series: ['#0072b2', '#d55e00', '#009e73', '#b3589a', '#b07d00', '#3f9bcf', '#8a5a44', '#6a63c7'],
    stages: { hadamard: '#c2a83e', bucket: '#8a8a2a', pack: '#882255', append: '#cc6677', distance: '#62b2da',
              topk: '#2f9c8d', attention: '#3f3a94', dense: '#a3abb5', step: '#4b5563', rest: '#d5dae1' },
    stalls: ['#4477aa', '#66ccee', '#228833', '#ccbb44', '#ee6677', '#aa3377', '#bbbbbb', '#8c6bb1', '#99610a'],
    gain: ['#eef4f2', '#c4e0d8', '#7fbfae', '#37947f', '#0f6a58', '#053f35'],
    loss: ['#fbf1ea', '#f3c9ad', '#e0946a', '#b85a34'],
    heat: ['#f3f6fa', '#f6d9b8', '#e8a067', '#c65f3a', '#8a2f2a', '#4a1420'], band: 0.07,
};

const DARK = {
    text: '#e3e8ee', quiet: '#9aa6b4', line: '#46515e', grid: '#29313b', surface: '#171c23', exact: '#c3ccd6',
    series: ['#56b4e9', '#f0834a', '#35c79b', '#dd8fc0', '#e6b23c', '#8fb8ff', '#c79a80', '#a9a2f2'],
    stages: { hadamard: '#ddcc77', bucket: '#b0b04a', pack: '#c25a8c', append: '#e08a98', distance: '#88ccee',
              topk: '#44aa99', attention: '#8a86e0', dense: '#6c7683', step: '#aeb8c4', rest: '#3a4450' },
    stalls: ['#6f9fd0', '#66ccee', '#4fae5e', '#ccbb44', '#ee6677', '#c965a0', '#8f979f', '#a88fd0', '#c8914a'],
    gain: ['#1d2a2a', '#1f4640', '#1f6a5d', '#2b957f', '#5fc4ab', '#b4ecdd'],
    loss: ['#2c2320', '#5a3526', '#94502f', '#d9804e'],
    heat: ['#212833', '#4a3230', '#7d4335', '#b96540', '#e8a565', '#fbe6c4'], band: 0.1,
};

export const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif';

const SYMBOLS = ['circle', 'rect', 'triangle', 'roundRect', 'pin', 'arrow'];

let printing = false;
const dark = window.matchMedia('(prefers-color-scheme: dark)');

export const isPrinting = () => printing;

export const theme = () => (dark.matches && !printing ? DARK : LIGHT);

// Calls back when the reader's scheme of colours changes.
export function onThemeChange(redraw) {
    dark.addEventListener('change', redraw);
}

// Paper has the light colours.
export function setPrinting(on) {
    printing = on;
}

// Looks of every series of the document by its name: the same in every chart. What is exact is grey and dashed.
export function seriesLooks(document) {
    const looks = new Map();
    let next = 0;
    for (const row of [...document.quality, ...document.heads, ...document.tasks]) {
        if (looks.has(row.series)) continue;
        const exact = row.policy === 'oracle' || row.policy === 'dense';
        looks.set(row.series, exact ? { exact, symbol: 'circle' }
                                    : { exact, index: next, symbol: SYMBOLS[next++ % SYMBOLS.length] });
    }
    return looks;
}

export function lookColour(look) {
    const colours = theme();
    return look.exact ? colours.exact : colours.series[look.index % colours.series.length];
}

// Lines of their own colour are solid; exact ones are dashed; after the palette's end colours come again, dotted.
const isRepeated = (look) => !look.exact && look.index >= LIGHT.series.length;
export const lineType = (look) => (look.exact ? [5, 3] : isRepeated(look) ? [1.5, 2.5] : 'solid');
export const lineMark = (look) => (look.exact ? 'dashed' : isRepeated(look) ? 'dotted' : 'line');

// The colour at a share (0 to 1) of the way along a ramp of #rrggbb colours.
export function mix(ramp, share) {
    const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1), low = Math.min(Math.floor(at), ramp.length - 2);
    const channel = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
    const between = (i) => Math.round(channel(ramp[low], i)
                                      + (at - low) * (channel(ramp[low + 1], i) - channel(ramp[low], i)));
    return `rgb(${between(0)},${between(1)},${between(2)})`;
}
