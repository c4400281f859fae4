/* Classify one image: classify net.tb image.raw, with the uint8 pixels of [channels, height,
 * width]. */

#include <stdio.h>
#include <stdlib.h>

#include "tritbench.h"

static void* read_file(const char* path, size_t* size) {
    FILE* file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) exit((perror(path), 1));
    *size = (size_t)ftell(file);
    rewind(file);
    void* data = aligned_alloc(TRITBENCH_ALIGNMENT, (*size + 63) / 64 * 64);
    if (!data || fread(data, 1, *size, file) != *size) exit((perror(path), 1));
    fclose(file);
    return data;
}

int main(int count, char** paths) {
    if (count != 3) return fprintf(stderr, "expected net.tb and image.raw\n"), 1;
    size_t size, pixels;
    void *data = read_file(paths[1], &size), *image = read_file(paths[2], &pixels);
    char error[200];
    tritbench_program* net;
    if (tritbench_load(data, size, NULL, &net, error, sizeof error) != TRITBENCH_OK)
        return fprintf(stderr, "%s: %s\n", paths[1], error), 1;
    int64_t shape[TRITBENCH_MOST_RANK];
    tritbench_output_shape(net, shape); /* [-1, classes] */
    size_t room = tritbench_arena_size(net, 1, 1);
    void* arena = aligned_alloc(TRITBENCH_ALIGNMENT, (room + 63) / 64 * 64);
    float* logits = malloc((size_t)shape[1] * sizeof *logits);
    if (tritbench_run(net, image, TRITBENCH_UINT8, 1, logits, arena, room, 1, error,
                      sizeof error) != TRITBENCH_OK)
        return fprintf(stderr, "%s\n", error), 1;
    for (int64_t i = 0; i < shape[1]; ++i) printf("%a\n", logits[i]);
    tritbench_free(net);
    return 0;
}
