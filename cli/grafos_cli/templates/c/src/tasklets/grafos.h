// tasklet-profile-v0 for C: the hooks that every tasklet exports, and the host's calls in C's manner.
//
// A tasklet is a file that includes this one and has `const char *run(struct grafos_buffer input)`, which answers NULL
// when it is done; any other text ends the run as a program error that says it: `return "bad_input";`.
// What each call means is in docs/reference/tasklet-abi.md, section 4, of grafos.
//
// There is no C library in a tasklet: no malloc, no printf, no files. What the compiler itself brings (stdint.h,
// stddef.h, stdbool.h, limits.h, float.h, stdarg.h) may be included.

#ifndef GRAFOS_H
#define GRAFOS_H

#include <stddef.h>
#include <stdint.h>

// What a host call answers when it does not do what it was asked. Zero and above is success.
enum grafos_answer {
    GRAFOS_DISCONNECTED = -1,
    GRAFOS_LEASE_EXPIRED = -2,
    GRAFOS_FENCED = -3,
    GRAFOS_CAPACITY_EXCEEDED = -4,
    GRAFOS_UNSUPPORTED = -5,
    GRAFOS_REVOKED = -6,
    GRAFOS_INVALID_ARGUMENT = -22,
};

#define GRAFOS_CALL(name) __attribute__((import_module("grafos_tasklet_v0"), import_name(#name))) extern

// The response is one JSON text; the last call counts.
GRAFOS_CALL(response_write) int32_t grafos_respond(const char *json, size_t length);
// Appends to the output bytes.
GRAFOS_CALL(output_write) int32_t grafos_write(const void *bytes, size_t length);
// One entry of the log.
GRAFOS_CALL(log_write) int32_t grafos_log(const char *text, size_t length);
// Says that the program cannot go on without so many bytes more; after it, return a text.
GRAFOS_CALL(out_of_memory) int32_t grafos_out_of_memory(uint64_t wanted_bytes);
// Nanoseconds since the run began, one a unit of fuel.
GRAFOS_CALL(clock_ns) uint64_t grafos_clock_ns(void);
// Units of fuel that are left.
GRAFOS_CALL(fuel_remaining) uint64_t grafos_fuel_remaining(void);

GRAFOS_CALL(buffer_read) int32_t grafos_buffer_read_(uint32_t handle, uint32_t offset, void *into, size_t length);
GRAFOS_CALL(fail) int32_t grafos_fail_(const char *text, size_t length);

// A buffer of the host, read piece by piece; it need not fit into memory.
struct grafos_buffer {
    uint32_t handle;
    uint32_t length;
};

// Copies at most `length` bytes from `offset` on, and gives how many: less than asked at the buffer's end.
static inline int32_t grafos_read(struct grafos_buffer buffer, uint32_t offset, void *into, size_t length) {
    return grafos_buffer_read_(buffer.handle, offset, into, length);
}

const char *run(struct grafos_buffer input);

// Where the run runs: one JSON object. Filled in before `run` is called.
struct grafos_buffer grafos_context;

__attribute__((export_name("_grafos_tasklet_init"))) void grafos_init_(uint32_t handle, uint32_t length) {
    grafos_context = (struct grafos_buffer){handle, length};
}

__attribute__((export_name("_grafos_tasklet_run"))) int32_t grafos_run_(uint32_t handle, uint32_t length) {
    const char *problem = run((struct grafos_buffer){handle, length});
    if (problem == NULL) return 0;
    size_t problem_length = 0;
    while (problem[problem_length] != '\0') problem_length++;
    grafos_fail_(problem, problem_length);
    return 1;
}

__attribute__((export_name("_grafos_tasklet_finalize"))) void grafos_finalize_(void) {}

#endif
