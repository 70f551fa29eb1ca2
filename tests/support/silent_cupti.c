/* silent_cupti.c: a library that stands in for CUPTI 13.2 without a driver, which never returns from cuptiGetVersion(): this
 * one sleeps there, which harms nobody. It is told from other releases by the symbols that 13.2 brought and later ones. */
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

int cuptiGetVersion(unsigned *version);
int cuptiActivityGetStructSize(void);

EXPORT int cuptiGetVersion(unsigned *version) {
    (void)version;
    for (;;) pause();
}

EXPORT int cuptiActivityGetStructSize(void) { return 999; }
