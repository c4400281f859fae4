#include "reader.h"

#include <cmath>
#include <cstring>

namespace tritbench {

float Reader::number() {
    const int64_t bits = word();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return static_cast<float>(value);
}

int64_t Reader::buffer() {
    return integer(0, static_cast<int64_t>(program_.buffers.size()) - 1, "a buffer");
}

void Reader::require_readable(int64_t number, int64_t count, Type type, int64_t behind) {
    program_.addressed.push_back(as_size(number));
    const Buffer& buffer = program_.buffers[as_size(number)];
    int64_t bytes = buffer.bytes;
    if (buffer.place == Place::input) {
        const int64_t types = when_ == When::pixels   ? 1
                              : when_ == When::floats ? 2
                                                      : program_.types;
        require(types == 1 << static_cast<int>(type), "the input is read as another type");
        bytes = program_.input.count() * bytes_of(type);
    }
    const bool inside = buffer.place == Place::arena || buffer.place == Place::constant;
    const int64_t needed = multiplied(count, bytes_of(type));
    require(needed <= bytes && (inside ? behind <= SLACK : needed + behind <= bytes),
            "buffer " + std::to_string(number) + " has " + std::to_string(bytes) + " bytes, " +
                std::to_string(needed + behind) + " are read");
}

int64_t Reader::readable(int64_t count, Type type, int64_t behind) {
    const int64_t number = buffer();
    require_readable(number, count, type, behind);
    return number;
}

void Reader::require_writable(int64_t number, int64_t count, Type type) {
    program_.addressed.push_back(as_size(number));
    const Buffer& buffer = program_.buffers[as_size(number)];
    require(buffer.place == Place::arena || buffer.place == Place::output,
            "a buffer that is written is an input or a constant");
    require(multiplied(count, bytes_of(type)) <= buffer.bytes,
            "buffer " + std::to_string(number) + " has " + std::to_string(buffer.bytes) +
                " bytes, more are written");
}

int64_t Reader::writable(int64_t count, Type type) {
    const int64_t number = buffer();
    require_writable(number, count, type);
    return number;
}

int64_t Reader::optional(int64_t count, Type type) {
    require(at_ < end_, "too few words");
    if (*at_ != -1) return readable(count, type);
    ++at_;
    return -1;
}

View Reader::read_view(int64_t buffer, int rank, const char* what) {
    View view;
    view.buffer = buffer;
    view.offset = integer(0, MOST, what);
    view.rank = static_cast<int>(integer(rank > 0 ? rank : 1, rank > 0 ? rank : MOST_RANK, what));
    for (int i = 0; i < view.rank; ++i) view.sizes[i] = size(what);
    for (int i = 0; i < view.rank; ++i) view.strides[i] = integer(0, MOST, what);
    return view;
}

int64_t Reader::reach(const View& view) const {
    int64_t last = view.offset, count = 1;
    for (int i = 0; i < view.rank; ++i) {
        last = multiplied(last + multiplied(view.sizes[i] - 1, view.strides[i]), 1);
        count = multiplied(count, view.sizes[i]);
    }
    return last + 1;
}

View Reader::view_of(int64_t first, int rank, const char* what) {
    require(first >= 0 && first < static_cast<int64_t>(program_.buffers.size()),
            std::string(what) + " is in no buffer");
    const View view = read_view(first, rank, what);
    require_readable(view.buffer, reach(view), Type::float32);
    return view;
}

View Reader::view(int rank, const char* what) { return view_of(word(), rank, what); }

View Reader::writable_view(int rank, const char* what, bool optional) {
    const auto buffers = static_cast<int64_t>(program_.buffers.size());
    const int64_t number = integer(optional ? -1 : 0, buffers - 1, "a buffer");
    const View view = read_view(number, rank, what);
    const int64_t count = reach(view);
    if (number >= 0) require_writable(number, count, Type::float32);
    return view;
}

const void* Reader::constant_bytes(int64_t count, int64_t size, const char* what) {
    const int64_t number = buffer();
    const int64_t found = word();
    const Buffer& buffer = program_.buffers[as_size(number)];
    require(buffer.place == Place::constant && found == count &&
                multiplied(count, size) <= buffer.bytes,
            std::string(what) + " has " + std::to_string(found) + " elements, expected " +
                std::to_string(count));
    return program_.data + buffer.offset;
}

}  // namespace tritbench
