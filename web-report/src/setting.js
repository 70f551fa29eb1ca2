// setting.js: which configurations belong to a setting: heads, batch, launch and what else tells them apart but length and
// budget.

const FIRM = ['n_q_heads', 'n_kv_heads', 'head_dim', 'dtype', 'batch', 'cache', 'launch', 'page_size', 'batch_lens', 'inputs'];
const LOOSE = ['selection', 'n_sinks', 'n_recent'];

// As adm_setting_fits(): the same in all that both depend on.
export const fits = (setting, config) => FIRM.every((key) => setting[key] === config[key])
    && LOOSE.every((key) => setting[key] === null || config[key] === null || setting[key] === config[key]);
