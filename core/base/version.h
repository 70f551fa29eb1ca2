/* version.h: which build this is. */
#ifndef ADM_CORE_BASE_VERSION_H
#define ADM_CORE_BASE_VERSION_H

/* "0.1.0" */
const char *adm_version(void);

/* The commit the build was made from, 40 hexadecimal digits; "unknown" outside a checkout. */
const char *adm_git_commit(void);

/* When that commit was made (committer date), "2026-11-29T22:53:00Z"; NULL outside a checkout. */
const char *adm_git_commit_utc(void);

/* 1: tracked files differed from that commit, 0: they did not, -1: unknown. */
int adm_git_dirty(void);

/* "gcc 12.2.0" */
const char *adm_compiler(void);

#endif
