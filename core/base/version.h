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

/* The options of configure.py that decide what of CUDA is in the build: "--cuda=off" or "--cuda=auto", "--arch=sm_90". */
const char *adm_configured_cuda(void);
const char *adm_configured_arch(void);

/* "gcc 12.2.0" */
const char *adm_compiler(void);

#endif
