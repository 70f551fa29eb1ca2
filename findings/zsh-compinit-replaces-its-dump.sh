#!/usr/bin/env bash
# zsh's `compinit -d FILE` does not write FILE: it puts a new file in its place, whatever was there.
#
# Package   zsh 5.9-4+b15 of Debian 12
# Expected  a link as FILE is followed, as any program that opens a file for writing follows it; so a device takes the dump
# Seen      the link is gone and a plain file is there; what it pointed at is as it was. With root's rights a device goes the same way
# So        `compinit -D` is the way to have no dump; `-d` never names a device
# Exit: 0 as described, 1 changed, 77 no network or no such package
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
cd "$folder" && apt-get download -qq zsh=5.9-4+b15 zsh-common 2>/dev/null || exit 77
for package in *.deb; do dpkg -x "$package" root; done
touch target && ln -s "$folder/target" dump
zsh() { ./root/bin/zsh -f -c "module_path=($folder/root/usr/lib/x86_64-linux-gnu/zsh/5.9)
    fpath=($folder/root/usr/share/zsh/functions/*(/)) ; autoload -Uz compinit; compinit -u -d $folder/dump"; }
zsh
echo "zsh $(./root/bin/zsh --version | cut -d' ' -f2): link $([ -L dump ] && echo kept || echo replaced), target $(wc -c < target) bytes"
[ ! -L dump ] && [ -s dump ] && [ ! -s target ]
