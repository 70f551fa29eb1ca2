#!/usr/bin/env bash
# jansson's json_dumps() returns a text that lacks a key, as if all were well, when its buffer cannot grow at that key.
#
# Package   libjansson4 and libjansson-dev 2.14-2 of Debian 12
# Expected  json_dumps() "returns ... NULL on error"; a text that it returns is the value's
# Seen      of the allocations that fail, one each run, some give NULL and some a text that lacks a key, which is no JSON
# So        measure with json_dumpb(value, NULL, 0, flags), allocate, and let json_dumpb() write: no buffer grows on the way
# Exit: 0 as described, 1 changed, 77 no network, no such package or no compiler
set -euo pipefail
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
cd "$folder" && command -v cc > /dev/null || exit 77
apt-get download -qq libjansson4=2.14-2 libjansson-dev=2.14-2 2> /dev/null || exit 77
for package in *.deb; do dpkg -x "$package" root; done
cat > main.c <<'END'
#include <jansson.h>
#include <string.h>

static int n, fail_at;
static void *allocate(size_t size) { return ++n == fail_at ? NULL : malloc(size); }

int main(void) {
    json_t *value = json_object();
    for (int i = 0; i < 40; i++) {
        char key[16];
        snprintf(key, sizeof key, "key.%d", i);
        json_object_set_new(value, key, json_integer(i));
    }
    size_t length = json_dumpb(value, NULL, 0, JSON_COMPACT);
    int n_null = 0, n_short = 0;
    json_set_alloc_funcs(allocate, free);
    for (int met = 1; met;) {
        n = 0, fail_at++;
        char *text = json_dumps(value, JSON_COMPACT);
        met = n >= fail_at;
        if (text == NULL) n_null++;
        else if (strlen(text) != length) n_short++;
    }
    printf("jansson %s: %d failing allocations give NULL, %d a text that is not the value's\n", JANSSON_VERSION, n_null, n_short);
    return n_short > 0 ? 0 : 1;
}
END
library=$(dirname "$(find root -name 'libjansson.so*' | head -n 1)")
cc -Iroot/usr/include main.c -o main -L"$library" -l:libjansson.so.4
LD_LIBRARY_PATH=$library ./main
