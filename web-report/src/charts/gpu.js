// gpu.js: what the charts of GPU profiles share: units joined with their configurations, and the setting (heads, batch,
// launch, ...) and length that the reader chose.

import { select } from '../dom.js';
import { count } from './format.js';
import { fits } from '../setting.js';

export { fits };

// Rows of "units", "counters" or "timelines" of a profile, each with its configuration as `config`.
export const rowsOf = (report, list, profile) => report[list]
    .filter((row) => row.profile === profile && row.config !== null)
    .map((row) => ({ ...row, config: report.configs[row.config] }));

export const distinct = (values) => [...new Set(values)].sort((a, b) => a - b);

// What to show first: the headline, or for a run without times the length and budget that the paper discusses most.
export const headlineOf = (report, profile) => report.profiles[profile].headline ?? { seq_len: 32768, budget: 256 };

// Which setting of a profile is shown: views.js knows what the reader chose.
let settingRule = () => -1;

export function setSettingRule(rule) {
    settingRule = rule;
}

// The reader's choice for one profile; charts subscribe to its changes.
class Choice {
    constructor(report, profile) {
        this.profile = profile;
        this.seq_len = report.profiles[profile].headline?.seq_len ?? null;
        this.listeners = [];
    }

    get setting() {
        return settingRule(this.profile);
    }

    set(changes) {
        Object.assign(this, changes);
        this.listeners.forEach((listener) => listener());
    }
}

const choices = new Map();

export function choiceOf(report, profile) {
    if (!choices.has(profile)) choices.set(profile, new Choice(report, profile));
    return choices.get(profile);
}

// A control over the lengths, shared likewise.
export function lengthControl(report, profile, controls, lengths) {
    const choice = choiceOf(report, profile);
    if (!lengths.includes(choice.seq_len)) choice.seq_len = lengths[lengths.length - 1];
    if (lengths.length < 2) return;
    const label = select('length', lengths.map((length) => [String(length), `${count(length)} tokens`]),
                         String(choice.seq_len), (value) => choice.set({ seq_len: Number(value) }));
    controls.append(label);
}

// Units of the chosen setting; a setting that another chart chose and this one lacks gives none.
export const chosenUnits = (report, profile) => {
    const setting = report.settings[choiceOf(report, profile).setting];
    return rowsOf(report, 'units', profile).filter((unit) => unit.status === 'ok' && fits(setting, unit.config));
};

export const findUnit = (units, stage, seq_len, budget, variant) => units
    .filter((unit) => unit.stage === stage && unit.config.seq_len === seq_len
                      && (unit.config.budget === null || unit.config.budget === budget)
                      && (variant === undefined || unit.config.variant === variant))
    .sort((a, b) => a.median - b.median)[0];
