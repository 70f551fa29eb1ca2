// gpu.js: what the charts of GPU profiles share: units joined with their configurations, and the reader's choice of a
// setting (heads, batch, launch, ...), which all charts of a profile follow.

import { element, select } from './frame.js';
import { count } from './format.js';

const FIRM = ['n_q_heads', 'n_kv_heads', 'head_dim', 'dtype', 'batch', 'cache', 'launch', 'page_size', 'batch_lens', 'inputs'];
const LOOSE = ['selection', 'n_sinks', 'n_recent'];

// As adm_setting_fits(): the same in all that both depend on.
export const fits = (setting, config) => FIRM.every((key) => setting[key] === config[key])
    && LOOSE.every((key) => setting[key] === null || config[key] === null || setting[key] === config[key]);

// Rows of "units", "counters" or "timelines" of a profile, each with its configuration as `config`.
export const rowsOf = (report, list, profile) => report[list]
    .filter((row) => row.profile === profile && row.config !== null)
    .map((row) => ({ ...row, config: report.configs[row.config] }));

export const distinct = (values) => [...new Set(values)].sort((a, b) => a - b);

// The words of a setting's name that distinguish it from the others.
function shortNames(settings) {
    const words = settings.map((setting) => setting.name.split(', '));
    const isCommon = (word) => words.every((list) => list.includes(word));
    return words.map((list) => list.filter((word) => !isCommon(word)).join(', ') || list.slice(0, 2).join(', '));
}

// What to show first: the headline, or for a run without times the length and budget that the paper discusses most.
export const headlineOf = (report, profile) => report.profiles[profile].headline ?? { seq_len: 32768, budget: 256 };

// The reader's choice for one profile; charts subscribe to its changes.
class Choice {
    constructor(report, profile) {
        const { headline } = report.profiles[profile];
        this.setting = headline?.setting ?? report.settings.findIndex((setting) => setting.profile === profile);
        this.seq_len = headline?.seq_len ?? null;
        this.listeners = [];
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

// A control over the settings for which `has` is true, if there are several; it follows the other charts of the profile.
export function settingControl(report, profile, figure, has) {
    const choice = choiceOf(report, profile);
    const settings = report.settings.map((setting, index) => ({ ...setting, index }))
        .filter((setting) => setting.profile === profile && has(setting));
    const names = shortNames(settings);
    const controls = element('div', 'controls');
    if (settings.length > 1) {
        const label = select('setting', settings.map((setting, i) => [String(setting.index), names[i]]),
                             String(choice.setting), (value) => choice.set({ setting: Number(value) }));
        choice.listeners.push(() => { label.querySelector('select').value = String(choice.setting); });
        controls.append(label);
    }
    figure.append(controls);
    return controls;
}

// A control over the lengths, shared likewise.
export function lengthControl(report, profile, controls, lengths) {
    const choice = choiceOf(report, profile);
    if (!lengths.includes(choice.seq_len)) choice.seq_len = lengths[lengths.length - 1];
    if (lengths.length < 2) return;
    const label = select('length', lengths.map((length) => [String(length), `${count(length)} tokens`]),
                         String(choice.seq_len), (value) => choice.set({ seq_len: Number(value) }));
    choice.listeners.push(() => { label.querySelector('select').value = String(choice.seq_len); });
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
