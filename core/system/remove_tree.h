/* remove_tree.h: a scratch folder with all that is in it. */
#ifndef ADM_CORE_SYSTEM_REMOVE_TREE_H
#define ADM_CORE_SYSTEM_REMOVE_TREE_H

/* Removes the folder and what is below it, down to 64 levels; links are removed, not followed. Allocates nothing, so a command
 * that memory ran out on leaves nothing behind; safe in a signal handler. What cannot be removed stays. */
void adm_remove_tree(const char *folder);

#endif
