/* Ternary networks in C: run a Program that `tritbench export FILE --program net.tb` wrote.

   Nothing throws, and `tritbench_run` allocates nothing: the caller gives the arena. A Program may
   be run from several threads at once, each with an arena of its own. `make lib` builds the
   library. */

#ifndef TRITBENCH_H
#define TRITBENCH_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define TRITBENCH_API __attribute__((visibility("default")))
#else
#define TRITBENCH_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define TRITBENCH_ALIGNMENT 64 /* bytes, of a Program in memory and of an arena */
#define TRITBENCH_MOST_RANK 8

typedef struct tritbench_program tritbench_program;

typedef enum {
    TRITBENCH_OK = 0,
    TRITBENCH_INVALID = 1,   /* an argument, or a Program that would read beyond what there is */
    TRITBENCH_NO_MEMORY = 2, /* none to be had, or an arena that is too small */
} tritbench_status;

typedef enum {
    TRITBENCH_UINT8 = 0,   /* pixels in 0..255 */
    TRITBENCH_FLOAT32 = 1, /* pixels in 0..1, or what the network takes */
    TRITBENCH_INT64 = 2,   /* indices */
} tritbench_type;

/* Makes `*program` of `size` bytes, which must stay as they are until `tritbench_free`, and checks
   all of them. `isa` is avx512vnni, avxvnni, avx2, neon or generic; NULL is the best that there is.
   What is wrong is written to `error`, cut off after `error_size` bytes; it may be NULL. */
TRITBENCH_API tritbench_status tritbench_load(const void* data, size_t size, const char* isa,
                                              tritbench_program** program, char* error,
                                              size_t error_size);
TRITBENCH_API void tritbench_free(tritbench_program* program);

/* Write the sizes for one image, and return how many there are; -k stands for k × the batch. */
TRITBENCH_API int tritbench_input_shape(const tritbench_program* program,
                                        int64_t shape[TRITBENCH_MOST_RANK]);
TRITBENCH_API int tritbench_output_shape(const tritbench_program* program,
                                         int64_t shape[TRITBENCH_MOST_RANK]);

/* Whether inputs of a type may come in. */
TRITBENCH_API int tritbench_takes(const tritbench_program* program, tritbench_type type);

/* Bytes of the arena that a run of so many images on so many threads needs. */
TRITBENCH_API size_t tritbench_arena_size(const tritbench_program* program, int64_t batch,
                                          int threads);

/* Starts threads, which are kept, so that a run may use `count` of them; returns how many it can.
 */
TRITBENCH_API int tritbench_start_threads(int count);

/* float32 results of `batch` inputs. An input with NaN or infinity gives NaN. */
TRITBENCH_API tritbench_status tritbench_run(const tritbench_program* program, const void* input,
                                             tritbench_type type, int64_t batch, float* output,
                                             void* arena, size_t arena_size, int threads,
                                             char* error, size_t error_size);

#ifdef __cplusplus
}
#endif

#endif
