"""Man pages and shell completions, made from the program's own tables of options.

    manual.py ADAMAS FOLDER

writes FOLDER/man/man1/adamas*.1 and FOLDER/{bash-completion/completions/adamas, zsh/site-functions/_adamas,
fish/vendor_completions.d/adamas.fish}. ADAMAS is asked `COMMAND --list-options` (core/cli/options.h).
"""
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# What stands behind an option's value: a kind of `adamas words`, or the words themselves. Everything else that takes a FILE is
# completed by files.
VALUES = {"--policies": "@policies", "--stages": "@stages", "--stage": "@stages", "--counters": "@sets", "--metric": "@metrics",
          "--label": "@labels", "--runs": "@labels", "--dtype": "f16 bf16", "--cache": "cold warm", "--launch": "graph stream",
          "--select": "head group", "--quality": "@labels", "--against": "@labels",
          "--memory": "paged contiguous both", "--timestamps": "auto software",
          "--thresholds": "calibrated centred channel fixed:-10,0,10"}


@dataclass
class Option:
    long: str
    short: str
    arg: str
    text: str

    @property
    def names(self):
        return [name for name in (self.long, self.short) if name]


@dataclass
class Command:
    """A command: the words that name it, what it says of itself, its options, and its own commands."""
    words: list
    usage: str = ""
    doc: str = ""
    after: str = ""
    options: list = field(default_factory=list)
    commands: list = field(default_factory=list)
    summary: str = ""

    def verbs(self):
        """Words in small letters that its usage names: "ack ID" says ack."""
        return re.findall(r"\b[a-z]+\b", self.usage)

    def all(self):
        yield self
        for command in self.commands:
            yield from command.all()


def read(adamas, words, summary=""):
    command = Command(words, summary=summary)
    listed = subprocess.run([adamas, *words[1:], "--list-options"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        kind, *rest = line.split("\t")
        if kind == "option":
            command.options.append(Option(*rest))
        elif kind == "command":
            command.commands.append(read(adamas, [*words, rest[0]], rest[1]))
        else:
            setattr(command, kind, rest[0].replace("\\n", "\n"))
    return command


# ---- man pages -------------------------------------------------------------------------------------------------------


def roff(text):
    """Text as troff takes it: its own escape, hyphens that can be copied, and no line that begins with a control character."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in text.split("\n"))


def page(command, version):
    name = "-".join(command.words)
    usage = " ".join(["COMMAND" if command.commands else "", "[OPTION...]", command.usage]).strip()
    lines = [f'.TH "{name.upper()}" "1" "" "adamas {version}" "Adamas Lab"', ".SH NAME",
             f"{roff(name)} \\- {roff(command.summary or 'simulates and profiles Adamas sparse attention')}", ".SH SYNOPSIS",
             f".B {roff(' '.join(command.words))}", roff(usage), ".SH DESCRIPTION", roff(command.doc)]
    if command.commands:
        lines.append(".SH COMMANDS")
        for each in command.commands:
            lines += [".TP", f".BR {roff('-'.join(each.words))} (1)", roff(each.summary)]
    if command.options:
        lines.append(".SH OPTIONS")
        for option in command.options:
            value = f"\\fI{roff(option.arg)}\\fR" if option.arg else ""
            long = f"\\fB{roff(option.long)}\\fR" + (f"={value}" if value else "")
            short = f"\\fB{roff(option.short)}\\fR" + (f" {value}" if value and not option.long else "")
            lines += [".TP", ", ".join(part for part, there in ((short, option.short), (long, option.long)) if there),
                      roff(option.text)]
    if command.after:
        lines += [".SH NOTES", roff(command.after)]
    lines += [".SH EXIT STATUS", "0 success, 1 regression found, 2 bad usage or input, 3 inconclusive, 4 environment or",
              "internal failure, 77 skipped because this machine lacks something, 130 interrupted."]
    return "\n".join(lines) + "\n"


# ---- completions -----------------------------------------------------------------------------------------------------


def shell_word(text):
    return "'" + text.replace("'", "'\\''") + "'"


def value_of(option):
    """What completes the option's value, in the words of `adamas_values` below: @KIND, words, "file", or "" for nothing."""
    given = VALUES.get(option.long)
    return given or ("file" if option.arg.startswith(("FILE", "DIR")) else "")


def bash(program):
    cases, values = [], {}
    for command in program.all():
        words = [name for option in command.options for name in option.names] + [each.words[-1] for each in command.commands]
        words += command.verbs()
        cases.append(f"        {shell_word(' '.join(command.words))}) words={shell_word(' '.join(words))} ;;")
        for option in command.options:
            if option.arg:
                for name in option.names:
                    values[(" ".join(command.words), name)] = value_of(option)
    valued = [f"        {shell_word(f'{words} {name}')}) value={shell_word(value or '-')} ;;"
              for (words, name), value in sorted(values.items())]
    groups = " ".join(shell_word(" ".join(c.words)) for c in program.all() if c.commands)
    return f"""# Completion of adamas for bash; made by core/cli/install/manual.py from the program's options.
_adamas_values() {{
    case $1 in
        @*) adamas words "${{1#@}}" 2>/dev/null ;;
        *) printf '%s\\n' $1 ;;
    esac
}}

_adamas() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
    local command=adamas words='' value='' prefix='' i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        case " {groups} " in
            *"'$command'"*) [[ ${{COMP_WORDS[i]}} != -* ]] && command+=" ${{COMP_WORDS[i]}}" ;;
            *) break ;;
        esac
    done
    if [[ $current == = ]]; then current=''; elif [[ $previous == = ]]; then previous=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    [[ ${{COMP_WORDS[COMP_CWORD]}} == = ]] && previous=${{COMP_WORDS[COMP_CWORD-1]}}
    case "$command $previous" in
{chr(10).join(valued)}
    esac
    if [[ $value == file ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        compopt -o filenames 2>/dev/null
    elif [[ -n $value ]]; then
        [[ $current == *,* ]] && prefix=${{current%,*}},
        [[ $value == - ]] ||
            mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$(_adamas_values "$value")" -- "${{current##*,}}")
    else
        case $command in
{chr(10).join(cases)}
        esac
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        if [[ $current != -* && ${{#COMPREPLY[@]}} == 0 ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            compopt -o filenames 2>/dev/null
        fi
    fi
}}
complete -F _adamas adamas
"""


def zsh(program):
    def spec(option):
        text = option.text.replace("[", "(").replace("]", ")").replace(":", " ")
        value = value_of(option)
        action = {"": " ", "file": "_files"}.get(value, f"({value})")
        if value.startswith("@"):
            action = f"{{_sequence compadd -- $(adamas words {value[1:]} 2>/dev/null)}}"
        ends = f":{option.arg}:{action}" if option.arg else ""
        return [shell_word(f"{name}{'=' if ends and name.startswith('--') else ''}[{text}]{ends}") for name in option.names]

    def case(command):
        name = " ".join(command.words)
        if command.commands:
            listed = " ".join(shell_word(f"{each.words[-1]}:{each.summary}") for each in command.commands)
            return f"        {shell_word(name)}) local -a commands=({listed}); _describe command commands ;;"
        specs = " \\\n            ".join(word for option in command.options for word in spec(option))
        if command.verbs():
            specs += f" \\\n            '1:word:({' '.join(command.verbs())})'"
        specs += " \\\n            '*:file:_files'"
        return f"        {shell_word(name)}) _arguments -s \\\n            {specs} ;;"

    groups = " ".join(shell_word(" ".join(c.words)) for c in program.all() if c.commands)
    return f"""#compdef adamas
# Completion of adamas for zsh; made by core/cli/install/manual.py from the program's options.
_adamas() {{
    local command=adamas
    local -a groups=({groups})
    while (( CURRENT > 2 && ${{groups[(Ie)$command]}} )); do
        command+=" $words[2]"
        shift words
        (( CURRENT-- ))
    done
    case $command in
{chr(10).join(case(command) for command in program.all())}
    esac
}}
_adamas "$@"
"""


def fish(program):
    lines = ["# Completion of adamas for fish; made by core/cli/install/manual.py from the program's options.",
             "function __adamas_at",
             "    set -l typed (commandline -opc)",
             "    set -l words",
             "    for word in $typed[2..]",
             "        string match -q -- '-*' $word; or set -a words $word",
             "    end",
             "    test \"$words[1..\"(count $argv)\"]\" = \"$argv\"; and test (count $words) -ge (count $argv)",
             "end", "complete -c adamas -f"]
    for command in program.all():
        words = command.words[1:]
        at = "__adamas_at " + " ".join(words) if words else "__fish_use_subcommand"
        for each in command.commands:
            here = f"{at}; and not __adamas_at {' '.join(each.words[1:])}" if words else at
            lines.append(f"complete -c adamas -n {shell_word(here)} -a {each.words[-1]} -d {shell_word(each.summary)}")
        if not command.commands:
            lines.append(f"complete -c adamas -n {shell_word(at)} -F")
            lines += [f"complete -c adamas -n {shell_word(at)} -a {verb}" for verb in command.verbs()]
        for option in command.options:
            value = value_of(option)
            parts = [f"complete -c adamas -n {shell_word(at)}"]
            parts += [f"-l {option.long[2:]}"] if option.long else []
            parts += [f"-s {shell_word(option.short[1:])}"] if option.short else []
            if option.arg:
                parts.append("-r" + ("F" if value == "file" else "f"))
                if value and value != "file":
                    listed = f"(adamas words {value[1:]} 2>/dev/null)" if value.startswith("@") else value
                    parts.append(f"-a {shell_word(listed)}")
            lines.append(" ".join([*parts, f"-d {shell_word(option.text.replace(chr(10), ' '))}"]))
    return "\n".join(lines) + "\n"


def main(adamas, folder):
    folder = Path(folder)
    adamas = str(Path(adamas).resolve())
    program = read(adamas, ["adamas"])
    version = subprocess.run([adamas, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    files = {"man/man1/" + "-".join(command.words) + ".1": page(command, version) for command in program.all()}
    files |= {"bash-completion/completions/adamas": bash(program), "zsh/site-functions/_adamas": zsh(program),
              "fish/vendor_completions.d/adamas.fish": fish(program)}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
