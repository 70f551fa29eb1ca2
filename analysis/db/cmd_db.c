/* cmd_db.c: `adamas db`: what is done with a database as such; the table of its commands. */
#include "analysis/db/db_create.h"
#include "analysis/db/db_export.h"
#include "analysis/db/db_gc.h"
#include "analysis/db/db_import.h"
#include "analysis/db/db_list.h"
#include "analysis/db/db_merge.h"
#include "analysis/db/db_show.h"
#include "core/cli/group.h"

static const adm_command *const verbs[] = {&adm_db_list,   &adm_db_show,   &adm_db_diff,  &adm_db_create,
                                           &adm_db_export, &adm_db_import, &adm_db_merge, &adm_db_gc};

static const adm_group group = {
    .name = "adamas db",
    .about = "Works on a database of runs.",
    .commands = verbs,
    .n_commands = sizeof verbs / sizeof verbs[0],
};

static int run(int argc, char **argv) { return adm_group_run(&group, argc, argv); }

const adm_command adm_cmd_db = {"db", "list, show, export, import, merge and prune runs", run};
