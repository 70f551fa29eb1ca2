// views.js: one view at a time. The program writes each part of a view (a GPU's, a session's, ...) into a <noscript>, which is
// markup where scripts are blocked and mere text where they run: a part becomes elements when it is chosen, and text again when
// its view is left. On paper every part is shown.

import { element, select } from './dom.js';
import { fits } from './setting.js';
import { chosen, choose, viewNow } from './state.js';
import { dressTables } from './tables.js';

const nameOfRun = (report, run_id) => report.runs.find((run) => run.run_id === run_id)?.label ?? '';

function gpuTitle(report, profile) {
    const label = nameOfRun(report, profile.run_id);
    return `${profile.gpu}${profile.is_recorded ? ', recorded' : ''}: run ${profile.run_id}${
        label ? ` \u201c${label.replace(/^recorded:/, '')}\u201d` : ''}`;
}

function sessionTitle(report, session) {
    const trace = report.traces.find((one) => one.trace_id === session.trace_id) ?? {};
    return `${trace.name ?? 'a trace'} (${trace.kind ?? ''}): run ${session.run_id}`;
}

// What parts can be of: their list in the document, and what a choice is called in the address.
const KINDS = {
    gpu: { label: 'GPU', list: 'profiles', title: gpuTitle },
    session: { label: 'session', list: 'sessions', title: sessionTitle },
    evaluation: { label: 'evaluation', list: 'evaluations', title: (_, row) => `${row.model}: run ${row.run_id}` },
    serving: { label: 'simulation', list: 'servings', title: (_, row) => `${row.model} on ${row.gpu}: run ${row.run_id}` },
    decoding: { label: 'GPU', list: 'decodings', title: (_, row) => `${row.gpu}${row.is_recorded ? ', recorded' : ''}` },
    tuning: { label: 'tuning session', list: 'tunings', title: (_, row) => `${row.stage} on ${row.device}` },
};

const kindsOf = (part) => Object.keys(KINDS).filter((kind) => kind in part.dataset);
const indexOf = (part, kind) => Number(part.dataset[kind]);

// The GPU that speaks for the report, as analysis/report/headline.c has it.
function firstGpu(report) {
    let first = -1;
    report.profiles.forEach((profile, i) => {
        if (profile.headline && (first < 0 || (!profile.is_recorded && report.profiles[first].is_recorded))) first = i;
    });
    return Math.max(first, 0);
}

// Scrolls the list of views sideways until a link is seen. scrollIntoView() would also have the next Tab begin behind the link
// (Chromium 156), past the link that skips the list.
function reveal(link) {
    const list = link.closest('ol'), seen = list.getBoundingClientRect(), { left, right } = link.getBoundingClientRect();
    list.scrollLeft += Math.min(left - seen.left, 0) + Math.max(right - seen.right, 0);
}

export class Views {
    constructor(report) {
        this.report = report;
        this.charts = null;
        this.opened = [];
        this.sections = [...document.querySelectorAll('main > section')];
        this.paper = false;
    }

    // The view of the address, or of a group in it; the first where there is none.
    current() {
        // Runs are in the page only once their view is open.
        const name = /^run-\d+$/.test(viewNow() ?? '') ? 'provenance' : viewNow();
        const target = name ? document.getElementById(name) : null;
        return target?.closest('main > section') ?? this.sections[0];
    }

    choiceOf(kind) {
        const rows = this.report[KINDS[kind].list], id = chosen(kind);
        const at = rows.findIndex((_, i) => this.idOf(kind, i) === id);
        return at >= 0 ? at : kind === 'gpu' ? firstGpu(this.report) : 0;
    }

    // A run's number; with a dot and a number where a run has several.
    idOf(kind, index) {
        const rows = this.report[KINDS[kind].list], { run_id } = rows[index];
        const before = rows.slice(0, index).filter((row) => row.run_id === run_id).length;
        return run_id === undefined ? String(index) : `${run_id}${before > 0 ? `.${before + 1}` : ''}`;
    }

    // Of a group's parts those to show: the chosen one, else one of the same GPU, else the first; and the one beside it.
    partsOf(group) {
        const parts = [...group.querySelectorAll(':scope > noscript')];
        if (this.paper || parts.length === 0 || kindsOf(parts[0]).length === 0) return parts;
        const first = this.pick(parts, (kind) => this.choiceOf(kind)), beside = this.besideOf(kindsOf(parts[0]));
        if (beside === null) return [first];
        const second = this.pick(parts, (kind) => (kind === beside.kind ? beside.index : this.choiceOf(kind)));
        return second !== first ? [first, second] : [first];
    }

    // The part that is of what `wanted` says, kind by kind.
    pick(parts, wanted) {
        let left = parts;
        for (const kind of kindsOf(parts[0])) {
            const index = wanted(kind), { gpu } = this.report.profiles[index] ?? {};
            const exact = left.filter((part) => indexOf(part, kind) === index);
            const alike = kind !== 'gpu' || exact.length > 0 ? exact
                : left.filter((part) => this.report.profiles[indexOf(part, kind)].gpu === gpu);
            left = alike.length > 0 ? alike : left.filter((part) => indexOf(part, kind) === indexOf(left[0], kind));
        }
        return left[0];
    }

    // What stands beside the choice, if it is of one of these kinds.
    besideOf(kinds) {
        const id = chosen('beside');
        for (const kind of id === undefined ? [] : kinds) {
            const index = this.report[KINDS[kind].list].findIndex((_, i) => this.idOf(kind, i) === id);
            if (index >= 0) return { kind, index };
        }
        return null;
    }

    open(section) {
        section.hidden = false;
        for (const group of section.querySelectorAll('.group')) {
            const parts = this.partsOf(group);
            const shelf = element('div', parts.length > 1 && !this.paper ? 'shelf beside' : 'shelf');
            for (const part of parts) {
                const template = document.createElement('template');
                template.innerHTML = part.textContent;
                template.content.querySelectorAll('.unscripted').forEach((note) => note.remove());
                const opened = element('div', 'part');
                opened.append(template.content);
                this.chooseSetting(opened, 'gpu' in part.dataset ? indexOf(part, 'gpu') : -1);
                shelf.append(opened);
            }
            if (parts.length === 0) continue;
            group.append(shelf);
            this.opened.push(shelf);
            dressTables(shelf, this.report, this.paper);
        }
        if (!this.paper) this.addChooser(section);
        this.charts?.draw(section, this.paper);
    }

    // Charts come after the page: what waits for them is drawn at once.
    setCharts(charts) {
        this.charts = charts;
        this.sections.filter((section) => !section.hidden).forEach((section) => charts.draw(section, this.paper));
    }

    // Tables of a setting that was not chosen are left out, unless that would leave none.
    chooseSetting(root, profile) {
        if (profile < 0 || this.paper) return;
        const tables = [...root.querySelectorAll('[data-setting]')];
        const keep = tables.filter((table) => Number(table.dataset.setting) === this.settingOf(profile));
        if (keep.length > 0) tables.filter((table) => !keep.includes(table)).forEach((table) => table.remove());
    }

    // Settings have the same name on every GPU, and are chosen by it.
    settingNames() {
        return [...new Set(this.report.settings.map((setting) => setting.name))];
    }

    settingOf(profile) {
        const name = this.settingNames()[Number(chosen('setting') ?? -1)];
        const at = this.report.settings.findIndex((setting) => setting.profile === profile && setting.name === name);
        if (at >= 0) return at;
        return this.report.profiles[profile].headline?.setting
            ?? this.report.settings.findIndex((setting) => setting.profile === profile);
    }

    hasSteps(setting) {
        return this.report.units.some((unit) => unit.profile === setting.profile && unit.stage === 'step'
            && unit.config !== null
            && fits(setting, this.report.configs[unit.config]));
    }

    // Selectors for what this view has parts of.
    addChooser(section) {
        const parts = [...section.querySelectorAll('.group > noscript')];
        const bar = element('div', 'chooser controls');
        for (const kind of Object.keys(KINDS)) {
            const there = [...new Set(parts.filter((part) => kind in part.dataset).map((part) => indexOf(part, kind)))]
                .sort((a, b) => a - b);
            if (there.length < 2) continue;
            const options = there.map((index) => [this.idOf(kind, index),
                                                  KINDS[kind].title(this.report, this.report[KINDS[kind].list][index])]);
            const shown = this.pick(parts.filter((part) => kind in part.dataset), (one) => this.choiceOf(one));
            bar.append(select(KINDS[kind].label, options, this.idOf(kind, indexOf(shown, kind)), (id) => choose(kind, id)));
            bar.append(select('beside it', [['', 'nothing'], ...options], chosen('beside') ?? '',
                              (id) => choose('beside', id)));
        }
        this.addSettings(section, bar);
        if (bar.childElementCount === 0) return;
        section.querySelector('h2').after(bar);
        this.opened.push(bar);
    }

    addSettings(section, bar) {
        const used = new Set([...section.querySelectorAll('.group > noscript[data-gpu]')].map((part) => indexOf(part, 'gpu')));
        const own = new Set([...used].flatMap((profile) => this.report.settings
            .filter((setting) => setting.profile === profile && this.hasSteps(setting)).map((setting) => setting.name)));
        const names = this.settingNames(), words = [...own].map((name) => name.split(', '));
        if (own.size < 2) return;
        const telling = (name) => name.split(', ').filter((word) => !words.every((list) => list.includes(word))).join(', ');
        const withSteps = [...section.querySelectorAll('.group > noscript[data-gpu]')].filter((part) => this.report.settings
            .some((setting) => setting.profile === indexOf(part, 'gpu') && this.hasSteps(setting)));
        const shown = this.pick(withSteps, (kind) => this.choiceOf(kind));
        const at = this.settingOf(indexOf(shown, 'gpu'));
        bar.append(select('setting', [...own].map((name) => [String(names.indexOf(name)), telling(name) || name]),
                          String(names.indexOf(this.report.settings[at]?.name)), (value) => choose('setting', value)));
    }

    close() {
        this.charts?.clear();
        this.opened.forEach((root) => root.remove());
        this.opened = [];
    }

    markCurrent(section) {
        for (const link of document.querySelectorAll('nav a'))
            if (link.getAttribute('href') === `#${section.id}`) {
                link.setAttribute('aria-current', 'page');
                reveal(link);
            } else link.removeAttribute('aria-current');
    }

    show() {
        const section = this.current(), moved = section !== this.shown;
        this.close();
        this.sections.forEach((one) => { one.hidden = one !== section; });
        this.open(section);
        this.markCurrent(section);
        this.shown = section;
        const target = document.getElementById(viewNow());
        if (target && target !== section) target.scrollIntoView();
        else if (moved) window.scrollTo(0, 0);
    }

    // Everything, for paper; and back.
    print(on) {
        this.paper = on;
        if (!on) return this.show();
        this.close();
        this.sections.forEach((section) => this.open(section));
        return undefined;
    }
}
