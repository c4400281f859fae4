// Where the rows of a product lie (`Windows` in steps.py).

#pragma once

#include "reader.h"

namespace tritbench {

struct Windows {
    int64_t base, maps, map_size, height, width, line, pixel, groups, group;

    int64_t rows() const { return maps * height * width; }
    // Where row `row` begins.
    int64_t at(int64_t row) const {
        const int64_t y = row / width;
        return base + y / height * map_size + y % height * line + row % width * pixel;
    }
    // The greatest element that the window of a row may begin at.
    int64_t last() const {
        int64_t last = base;
        const int64_t pairs[][2] = {
            {maps, map_size}, {height, line}, {width, pixel}, {groups, group}};
        for (const auto& pair : pairs)
            last = multiplied(last + multiplied(pair[0] - 1, pair[1]), 1);
        return last;
    }
};

inline Windows read_windows(Reader& r) {
    Windows w;
    w.base = r.integer(0, MOST, "a base");
    w.maps = r.size("maps");
    w.map_size = r.integer(0, MOST, "a map's size");
    w.height = r.size("a height");
    w.width = r.size("a width");
    w.line = r.integer(0, MOST, "a line");
    w.pixel = r.integer(0, MOST, "a pixel");
    w.groups = r.size("groups");
    w.group = r.integer(0, MOST, "a group");
    multiplied(multiplied(w.maps, w.height), w.width);
    return w;
}

// The result of rows: maps without gaps; perhaps in no buffer (-1).
inline View read_maps(Reader& r, int64_t maps, int64_t height, int64_t width, int64_t channels,
                      bool optional = false) {
    const View out = r.writable_view(4, "out", optional);
    const int64_t sizes[] = {maps, height, width, channels};
    int64_t stride = 1;
    for (int i = 3; i >= 0; --i) {
        require(out.sizes[i] == sizes[i] && (out.strides[i] == stride),
                "out is not as large as the result");
        stride = multiplied(stride, sizes[i]);
    }
    return out;
}

}  // namespace tritbench
