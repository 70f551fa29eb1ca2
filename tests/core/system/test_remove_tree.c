/* test_remove_tree.c: a folder with folders in it goes whole; what a link leads to stays. */
#include "tests/support/stage_check.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/system/remove_tree.h"

static void touch(const char *folder, const char *name) {
    char path[256];
    assert_true(snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void a_tree_goes_and_what_links_lead_to_stays(void **state) {
    (void)state;
    char outside[] = "/tmp/adamas-outside-XXXXXX", tree[] = "/tmp/adamas-tree-XXXXXX", path[256], name[32];
    assert_non_null(mkdtemp(outside));
    assert_non_null(mkdtemp(tree));
    touch(outside, "kept");
    for (int level = 0; level < 4; level++) {
        snprintf(path, sizeof path, "%s%.*s", tree, 2 * level, "/a/a/a/a");
        if (level > 0) assert_int_equal(mkdir(path, 0700), 0);
        for (int i = 0; i < 200; i++) { /* more than one buffer of entries */
            snprintf(name, sizeof name, "a-file-named-%d", i);
            touch(path, name);
        }
        strcat(path, "/link");
        assert_int_equal(symlink(outside, path), 0);
    }
    adm_remove_tree(tree);
    assert_int_equal(access(tree, F_OK), -1);
    snprintf(path, sizeof path, "%s/kept", outside);
    assert_int_equal(access(path, F_OK), 0);

    assert_int_equal(symlink(outside, tree), 0); /* a link in the folder's place is no folder */
    adm_remove_tree(tree);
    assert_int_equal(access(path, F_OK), 0);
    unlink(tree);
    adm_remove_tree(outside);
    assert_int_equal(access(outside, F_OK), -1);
    adm_remove_tree("/tmp/adamas-that-is-not-there");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_tree_goes_and_what_links_lead_to_stays)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
