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

// Bytes of a block, and of a lease reference at most.
#define GRAFOS_BLOCK_BYTES 512
#define GRAFOS_REFERENCE_BYTES_MAX 512

// What a host call answers when it does not do what it was asked. Zero and above is success.
enum grafos_answer {
    GRAFOS_DISCONNECTED = -1,
    GRAFOS_LEASE_EXPIRED = -2,
    GRAFOS_FENCED = -3,
    GRAFOS_CAPACITY_EXCEEDED = -4,
    GRAFOS_UNSUPPORTED = -5,
    GRAFOS_REVOKED = -6,
    GRAFOS_DRAINING = -9,
    GRAFOS_INVALID_ARGUMENT = -22,
};

#define GRAFOS_CALL_OF(module, name) __attribute__((import_module(module), import_name(#name))) extern
#define GRAFOS_CALL(name) GRAFOS_CALL_OF("grafos_tasklet_v0", name)
#define GRAFOS_MEMORY_CALL(name) GRAFOS_CALL_OF("fabricbios_fbmu_v0", name)
#define GRAFOS_BLOCK_CALL(name) GRAFOS_CALL_OF("fabricbios_fbbu_v0", name)
#define GRAFOS_SERVICE_CALL(name) GRAFOS_CALL_OF("grafos_svc_v0", name)

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

// Leased memory: of a lease of the run's own, by its slot, or of a shared region, by the slot that attaching gave.
// Bytes leased.
GRAFOS_MEMORY_CALL(fbmu_size) int64_t grafos_memory_size(uint32_t slot);
// Both move all of the bytes or none.
GRAFOS_MEMORY_CALL(fbmu_read)
int32_t grafos_memory_read(uint32_t slot, uint64_t offset, void *into, size_t length);
GRAFOS_MEMORY_CALL(fbmu_write)
int32_t grafos_memory_write(uint32_t slot, uint64_t offset, const void *bytes, size_t length);
// The slot of the shared region that a lease reference names.
GRAFOS_MEMORY_CALL(fbmu_attach) int32_t grafos_memory_attach(const char *reference, size_t length);
// Copies the lease reference of a shared region, and gives its length: at most GRAFOS_REFERENCE_BYTES_MAX.
GRAFOS_MEMORY_CALL(fbmu_ref) int32_t grafos_memory_reference(uint32_t slot, char *into, size_t capacity);
// Both change the word at `offset`, a multiple of eight, in one step where it is, and give what it was in `found`.
GRAFOS_MEMORY_CALL(fbmu_compare_exchange)
int32_t grafos_memory_compare_exchange(uint32_t slot, uint64_t offset, uint64_t expected, uint64_t wanted,
                                       uint64_t *found);
GRAFOS_MEMORY_CALL(fbmu_fetch_add)
int32_t grafos_memory_fetch_add(uint32_t slot, uint64_t offset, uint64_t delta, uint64_t *found);

// Leased blocks, by slots of their own; a block has GRAFOS_BLOCK_BYTES.
GRAFOS_BLOCK_CALL(fbbu_get_num_blocks) int64_t grafos_block_count(uint32_t slot);
GRAFOS_BLOCK_CALL(fbbu_read_block) int32_t grafos_block_read(uint32_t slot, uint64_t lba, void *into);
GRAFOS_BLOCK_CALL(fbbu_write_block) int32_t grafos_block_write(uint32_t slot, uint64_t lba, const void *block);

// Services. `listener_lease` is 0. Waiting uses no fuel; GRAFOS_DRAINING says that no session will come any more.
GRAFOS_SERVICE_CALL(svc_listen)
int32_t grafos_listen(uint32_t listener_lease, uint32_t port, uint32_t max_sessions);
// The listener, when a session waits to be accepted; else a session that is ready.
GRAFOS_SERVICE_CALL(svc_wait) int32_t grafos_wait(uint32_t listener);
GRAFOS_SERVICE_CALL(svc_accept) int32_t grafos_accept(uint32_t listener);
// How many bytes came; 0 when the client sends no more.
GRAFOS_SERVICE_CALL(svc_read) int32_t grafos_session_read(uint32_t session, void *into, size_t capacity);
// How many bytes were taken, which may be fewer than there are.
GRAFOS_SERVICE_CALL(svc_write) int32_t grafos_session_write(uint32_t session, const void *bytes, size_t length);
GRAFOS_SERVICE_CALL(svc_close) int32_t grafos_session_close(uint32_t session);

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
