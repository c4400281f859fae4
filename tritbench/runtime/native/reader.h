// Reads the words of a step, and refuses what does not fit the buffers.

#pragma once

#include "program.h"

namespace tritbench {

constexpr int64_t LARGEST = int64_t{1} << 31;  // of a size
constexpr int64_t MOST = int64_t{1} << 42;     // of elements or bytes

// A product or sum that is not out of range.
inline int64_t multiplied(int64_t a, int64_t b) {
    int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result) || result > MOST || result < -MOST)
        throw std::invalid_argument("sizes that are too large");
    return result;
}

inline void require(bool holds, const std::string& what) {
    if (!holds) throw std::invalid_argument(what);
}

class Reader {
  public:
    Reader(Program& program, const int64_t* at, const int64_t* end, When when)
        : program_(program), at_(at), end_(end), when_(when) {}

    int64_t word() {
        require(at_ < end_, "too few words");
        return *at_++;
    }
    int64_t integer(int64_t least, int64_t most, const char* what) {
        const int64_t value = word();
        require(value >= least && value <= most,
                std::string(what) + " is " + std::to_string(value) + ", expected " +
                    std::to_string(least) + " to " + std::to_string(most));
        return value;
    }
    int64_t size(const char* what) { return integer(1, LARGEST, what); }
    bool flag(const char* what) { return integer(0, 1, what) != 0; }
    float number();
    void sizes(int64_t* to, int count, int64_t least, const char* what) {
        for (int i = 0; i < count; ++i) to[i] = integer(least, LARGEST, what);
    }

    // A buffer with room for `count` elements of a type, and some that may be read behind them.
    int64_t readable(int64_t count, Type type, int64_t behind = 0);
    int64_t writable(int64_t count, Type type);
    // The same of a buffer whose number is known.
    void require_readable(int64_t buffer, int64_t count, Type type, int64_t behind = 0);
    void require_writable(int64_t buffer, int64_t count, Type type);
    // A buffer that may be missing: -1.
    int64_t optional(int64_t count, Type type);
    int64_t buffer();

    View view(int rank, const char* what);  // for reading
    View view_of(int64_t first, int rank, const char* what);
    // For writing; in no buffer (-1) only where `optional`.
    View writable_view(int rank, const char* what, bool optional = false);

    template <class T>
    const T* constant(int64_t count, const char* what) {
        return static_cast<const T*>(constant_bytes(count, sizeof(T), what));
    }
    // How many elements the next constant has.
    int64_t constant_count() const {
        require(end_ - at_ >= 2, "too few words");
        return at_[1];
    }
    bool done() const { return at_ == end_; }
    const Program& program() const { return program_; }

  private:
    const void* constant_bytes(int64_t count, int64_t size, const char* what);
    View read_view(int64_t buffer, int rank, const char* what);
    int64_t reach(const View& view) const;

    Program& program_;
    const int64_t* at_;
    const int64_t* end_;
    When when_;
};

}  // namespace tritbench
