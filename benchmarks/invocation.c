/* The floor of an isolated run: the same module, hooks and host calls as invocation.py, in C on the same library.
 *
 *     invocation LIBRARY MODULE [NAME=VALUE ...]
 *
 * NAME is a setter of wasmtime's configuration (`config_...`) or of its pool (`pool_...`). For each line on standard
 * input, a number of runs, it answers one line: nanoseconds of this process's CPU time for all of them together.
 * The prototypes are declared here, as far as they are used; values are those of wasmtime's C API. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct { uint64_t store_id; void *private_; } func_t;
typedef struct { uint64_t store_id; uint32_t private1, private2; } memory_t;
typedef struct { uint64_t store_id; size_t private_; } instance_t;
typedef struct {
    uint8_t kind;
    union { func_t func; memory_t memory; uint64_t room[4]; } of;
} extern_t;
typedef struct { int64_t value; int64_t rest; } cell_t;
typedef struct { size_t size; void *data; } vector_t;
typedef size_t (*callback_t)(void *, void *, cell_t *, size_t);

enum { BYTES = 1024, FUEL = 500000, MEMORY_MAX = 32 << 20 };
static unsigned char input[BYTES], output[BYTES], context_json[200];
static extern_t memory;
static void *context;

#define LOAD(result, name, ...) result (*name)(__VA_ARGS__) = (result(*)(__VA_ARGS__))find(#name)
static void *library;
static void *find(const char *name) {
    void *found = dlsym(library, name);
    if (!found) { fprintf(stderr, "no %s\n", name); exit(1); }
    return found;
}

static uint8_t *(*memory_data)(void *, memory_t *);
static size_t (*memory_size)(void *, memory_t *);
static void *(*get_fuel)(void *, uint64_t *);
static void *(*set_fuel)(void *, uint64_t);

static bool pay(uint64_t units) {
    uint64_t left;
    get_fuel(context, &left);
    if (left < units) return false;
    set_fuel(context, left - units);
    return true;
}

static size_t buffer_read(void *env, void *caller, cell_t *cells, size_t count) {
    (void)env, (void)caller, (void)count;
    uint32_t handle = cells[0].value, offset = cells[1].value, dst = cells[2].value, length = cells[3].value;
    const unsigned char *buffer = handle == 2 ? input : context_json;
    uint32_t size = handle == 2 ? BYTES : sizeof context_json;
    int32_t answer = -22;
    if (handle >= 1 && handle <= 2 && offset <= size && (uint64_t)dst + length <= memory_size(context, &memory.of.memory)) {
        uint32_t taken = length < size - offset ? length : size - offset;
        answer = -4;
        if (pay(taken)) {
            memcpy(memory_data(context, &memory.of.memory) + dst, buffer + offset, taken);
            answer = taken;
        }
    }
    cells[0].value = answer;
    return 0;
}

static size_t output_write(void *env, void *caller, cell_t *cells, size_t count) {
    (void)env, (void)caller, (void)count;
    uint32_t src = cells[0].value, length = cells[1].value;
    int32_t answer = -22;
    if ((uint64_t)src + length <= memory_size(context, &memory.of.memory)) {
        answer = -4;
        if (length <= BYTES && pay(length)) {
            memcpy(output, memory_data(context, &memory.of.memory) + src, length);
            answer = 0;
        }
    }
    cells[0].value = answer;
    return 0;
}

static void *configuration(int count, char **settings) {
    LOAD(void *, wasm_config_new, void);
    LOAD(void *, wasmtime_pooling_allocation_config_new, void);
    LOAD(void, wasmtime_pooling_allocation_strategy_set, void *, void *);
    void *config = wasm_config_new(), *pool = wasmtime_pooling_allocation_config_new();
    for (int i = 0; i < count; i++) {
        char name[200], *is = strchr(settings[i], '=');
        bool of_pool = !strncmp(settings[i], "pool_", 5);
        *is = 0;
        snprintf(name, sizeof name, "wasmtime_%s%s_set", of_pool ? "pooling_allocation_config_" : "",
                 settings[i] + (of_pool ? 5 : 0));
        ((void (*)(void *, uint64_t))find(name))(of_pool ? pool : config, strtoull(is + 1, NULL, 10));
    }
    wasmtime_pooling_allocation_strategy_set(config, pool);
    return config;
}

static void must(void *error, void *trap, const char *what) {
    if (error || trap) { fprintf(stderr, "%s failed\n", what); exit(1); }
}

int main(int argc, char **argv) {
    static unsigned char module_bytes[1 << 16];
    if (argc < 3 || !(library = dlopen(argv[1], RTLD_NOW))) return 2;
    FILE *file = fopen(argv[2], "rb");
    if (!file) return 2;
    size_t size = fread(module_bytes, 1, sizeof module_bytes, file);
    fclose(file);
    memory_data = find("wasmtime_memory_data"), memory_size = find("wasmtime_memory_data_size");
    get_fuel = find("wasmtime_context_get_fuel"), set_fuel = find("wasmtime_context_set_fuel");
    LOAD(void *, wasm_engine_new_with_config, void *);
    LOAD(void *, wasmtime_module_new, void *, const void *, size_t, void **);
    LOAD(void *, wasmtime_linker_new, void *);
    LOAD(void *, wasmtime_linker_define_func_unchecked, void *, const char *, size_t, const char *, size_t, void *,
         callback_t, void *, void *);
    LOAD(void *, wasmtime_linker_instantiate_pre, void *, void *, void **);
    LOAD(void *, wasm_functype_new, vector_t *, vector_t *);
    LOAD(void *, wasm_valtype_new, uint8_t);
    LOAD(void, wasm_valtype_vec_new, vector_t *, size_t, void **);
    LOAD(void *, wasmtime_store_new, void *, void *, void *);
    LOAD(void *, wasmtime_store_context, void *);
    LOAD(void, wasmtime_store_limiter, void *, int64_t, int64_t, int64_t, int64_t, int64_t);
    LOAD(void, wasmtime_store_delete, void *);
    LOAD(void, wasmtime_context_set_epoch_deadline, void *, uint64_t);
    LOAD(void *, wasmtime_instance_pre_instantiate, void *, void *, instance_t *, void **);
    LOAD(bool, wasmtime_instance_export_get, void *, instance_t *, const char *, size_t, extern_t *);
    LOAD(void *, wasmtime_func_call_unchecked, void *, func_t *, cell_t *, size_t, void **);

    void *engine = wasm_engine_new_with_config(configuration(argc - 3, argv + 3)), *module, *pre, *trap = NULL;
    must(wasmtime_module_new(engine, module_bytes, size, &module), NULL, "compiling");
    void *linker = wasmtime_linker_new(engine);
    const char *names[] = {"buffer_read", "output_write"};
    callback_t calls[] = {buffer_read, output_write};
    for (int i = 0; i < 2; i++) {
        vector_t params, results;
        void *types[4], *result = wasm_valtype_new(0);
        for (int j = 0; j < 4; j++) types[j] = wasm_valtype_new(0);
        wasm_valtype_vec_new(&params, i ? 2 : 4, types);
        wasm_valtype_vec_new(&results, 1, &result);
        must(wasmtime_linker_define_func_unchecked(linker, "grafos_tasklet_v0", 17, names[i], strlen(names[i]),
                                                   wasm_functype_new(&params, &results), calls[i], NULL, NULL),
             NULL, "linking");
    }
    must(wasmtime_linker_instantiate_pre(linker, module, &pre), NULL, "linking");

    const char *hooks[] = {"_grafos_tasklet_init", "_grafos_tasklet_run", "_grafos_tasklet_finalize"};
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        struct timespec began, ended;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
        for (long left = strtol(line, NULL, 10); left > 0; left--) {
            void *store = wasmtime_store_new(engine, NULL, NULL);
            instance_t instance;
            extern_t functions[3];
            context = wasmtime_store_context(store);
            wasmtime_store_limiter(store, MEMORY_MAX, 65536, 1, 8, 1);
            set_fuel(context, FUEL);
            wasmtime_context_set_epoch_deadline(context, 1);
            must(wasmtime_instance_pre_instantiate(pre, context, &instance, &trap), trap, "instantiating");
            wasmtime_instance_export_get(context, &instance, "memory", 6, &memory);
            for (int i = 0; i < 3; i++)
                wasmtime_instance_export_get(context, &instance, hooks[i], strlen(hooks[i]), &functions[i]);
            for (int i = 0; i < 3; i++) {
                cell_t cells[2] = {{i + 1, 0}, {i ? BYTES : (int64_t)sizeof context_json, 0}};
                must(wasmtime_func_call_unchecked(context, &functions[i].of.func, cells, 2, &trap), trap, hooks[i]);
                if (i == 1 && (int32_t)cells[0].value) return 1;
            }
            uint64_t fuel;
            get_fuel(context, &fuel);
            wasmtime_store_delete(store);
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
        printf("%lld\n", (ended.tv_sec - began.tv_sec) * 1000000000LL + ended.tv_nsec - began.tv_nsec);
        fflush(stdout);
    }
    return 0;
}
