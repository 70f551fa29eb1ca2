/* fuzz_options.c: what ASan does in a fuzzer: little that takes time and finds nothing here. */
const char *__asan_default_options(void);

/* A small quarantine stays in the cache. Stacks of allocations are short ones. */
const char *__asan_default_options(void) {
    return "quarantine_size_mb=4:malloc_context_size=6:detect_stack_use_after_return=0:allocator_release_to_os_interval_ms=-1";
}
