// stage_names.js: the names of the stages, in the order in which a step runs them, as the document has them from the program.

export let STAGES = []; // the stages that make up a step
export let ORDER = [];  // and behind them the whole step and dense attention

export function setStageNames(names) {
    ORDER = names;
    STAGES = names.slice(0, names.indexOf('step'));
}
