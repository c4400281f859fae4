// The C interface of include/tritbench.h. No exception crosses it.

#include <cstring>
#include <exception>
#include <new>

#include "../../../include/tritbench.h"
#include "pool.h"
#include "program.h"

struct tritbench_program {
    std::unique_ptr<tritbench::Program> program;
};

namespace tritbench {
namespace {

constexpr int64_t MOST_BATCH = int64_t{1} << 31;
constexpr int MOST_THREADS = 1024;

static_assert(TRITBENCH_ALIGNMENT == BLOCK_BYTES && TRITBENCH_MOST_RANK == MOST_RANK);

tritbench_status fail(tritbench_status status, const char* what, char* error, size_t size) {
    if (error && size > 0) {
        std::strncpy(error, what, size - 1);
        error[size - 1] = '\0';
    }
    return status;
}

const char* best_isa() {
    for (const char* name : ISAS)
        if (find_kernels(name)) return name;
    return "generic";
}

int write_shape(const Shape& shape, int64_t* to) {
    std::memcpy(to, shape.sizes, sizeof shape.sizes);
    return static_cast<int>(shape.rank);
}

bool sensible(int64_t batch, int threads) {
    return batch >= 0 && batch <= MOST_BATCH && threads >= 1 && threads <= MOST_THREADS;
}

}  // namespace
}  // namespace tritbench

extern "C" {

tritbench_status tritbench_load(const void* data, size_t size, const char* isa,
                                tritbench_program** program, char* error, size_t error_size) {
    using namespace tritbench;
    if (!data || !program) return fail(TRITBENCH_INVALID, "no data", error, error_size);
    *program = nullptr;
    try {
        auto loaded = load(static_cast<const uint8_t*>(data), static_cast<int64_t>(size),
                           isa ? isa : best_isa());
        *program = new tritbench_program{std::move(loaded)};
        return TRITBENCH_OK;
    } catch (const std::bad_alloc&) {
        return fail(TRITBENCH_NO_MEMORY, "no memory", error, error_size);
    } catch (const std::exception& wrong) {
        return fail(TRITBENCH_INVALID, wrong.what(), error, error_size);
    }
}

void tritbench_free(tritbench_program* program) { delete program; }

int tritbench_input_shape(const tritbench_program* program, int64_t* shape) {
    return tritbench::write_shape(program->program->input, shape);
}

int tritbench_output_shape(const tritbench_program* program, int64_t* shape) {
    return tritbench::write_shape(program->program->output, shape);
}

int tritbench_takes(const tritbench_program* program, tritbench_type type) {
    return type >= TRITBENCH_UINT8 && type <= TRITBENCH_INT64 &&
           program->program->takes(static_cast<tritbench::Type>(type));
}

size_t tritbench_arena_size(const tritbench_program* program, int64_t batch, int threads) {
    if (!tritbench::sensible(batch, threads)) return 0;
    return static_cast<size_t>(program->program->room(batch, threads));
}

int tritbench_start_threads(int count) { return tritbench::start_threads(count); }

tritbench_status tritbench_run(const tritbench_program* program, const void* input,
                               tritbench_type type, int64_t batch, float* output, void* arena,
                               size_t arena_size, int threads, char* error, size_t error_size) {
    using namespace tritbench;
    if (!program || !input || !output || !arena || !sensible(batch, threads))
        return fail(TRITBENCH_INVALID, "an argument is missing or out of range", error, error_size);
    if (!tritbench_takes(program, type))
        return fail(TRITBENCH_INVALID, "inputs of another type than it takes", error, error_size);
    if (reinterpret_cast<uintptr_t>(arena) % TRITBENCH_ALIGNMENT != 0)
        return fail(TRITBENCH_INVALID, "an arena that is not aligned to 64 bytes", error,
                    error_size);
    if (arena_size < tritbench_arena_size(program, batch, threads))
        return fail(TRITBENCH_NO_MEMORY, "an arena that is too small", error, error_size);
    run(*program->program, input, static_cast<Type>(type), batch, output,
        static_cast<uint8_t*>(arena), threads);
    return TRITBENCH_OK;
}

}  // extern "C"
