// state.js: what the reader chose, kept in the page's address so that a link restores it: #VIEW?gpu=3&setting=1&...

const listeners = [];
let place = { view: '', choices: new Map() };

export function readPlace(hash) {
    const [view, query = ''] = hash.replace(/^#/, '').split('?');
    return { view: decodeURIComponent(view), choices: new Map(new URLSearchParams(query)) };
}

export function writePlace({ view, choices }) {
    const query = new URLSearchParams([...choices]).toString();
    return `#${encodeURIComponent(view)}${query ? `?${query}` : ''}`;
}

export const viewNow = () => place.view;
export const chosen = (key) => place.choices.get(key);

// Keeps a choice without drawing anew; undefined or '' forgets it.
export function keep(key, value) {
    if (value === undefined || value === '') place.choices.delete(key);
    else place.choices.set(key, String(value));
    history.replaceState(null, '', writePlace(place));
}

// Keeps a choice and tells whoever draws.
export function choose(key, value) {
    keep(key, value);
    listeners.forEach((listener) => listener());
}

// A choice holds in every view, so a link to a view takes the others' choices with it, unless it has its own.
function follow() {
    const next = readPlace(window.location.hash);
    if (next.choices.size === 0) next.choices = new Map([...place.choices].filter(([key]) => !key.includes('.')));
    place = next;
    if (window.location.hash !== writePlace(place) && place.view) history.replaceState(null, '', writePlace(place));
    listeners.forEach((listener) => listener());
}

export function startState(listener) {
    place = readPlace(window.location.hash);
    listeners.push(listener);
    window.addEventListener('hashchange', follow);
}
