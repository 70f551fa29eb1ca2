// dom.js: elements, choices and files: what the page's script and the charts share.

// Hands the reader a file.
export function save(name, type, text) {
    const link = element('a', '');
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// An element with a class, text, and children; text is never read as markup.
export function element(tag, className, ...children) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
}

// A labelled choice among [value, title] pairs; values are strings.
export function select(label, options, value, changed) {
    const control = element('select', '');
    for (const [name, title] of options) control.append(Object.assign(element('option', '', title), { value: name }));
    control.value = value;
    control.addEventListener('change', () => changed(control.value));
    return element('label', '', `${label} `, control);
}
