// A Program: a network as one flat buffer that is read in place. `program.py` writes it; `load`
// refuses one that would read or write out of bounds, whatever its words are.

#pragma once

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "float_kernels.h"
#include "kernels.h"

namespace tritbench {

inline size_t as_size(int64_t value) { return static_cast<size_t>(value); }
inline int64_t aligned(int64_t bytes) { return (bytes + BLOCK_BYTES - 1) & -int64_t{BLOCK_BYTES}; }

enum class Place : int64_t { arena, input, output, constant };
enum class When : int64_t { always, pixels, floats };
enum class Type : int64_t { uint8, float32, int64 };

inline int64_t bytes_of(Type type) {
    return type == Type::uint8 ? 1 : type == Type::float32 ? 4 : 8;
}

struct Buffer {
    Place place;
    int64_t offset;  // in the arena, or in the Program
    int64_t bytes;   // for one image
    int64_t apart;   // bytes from one image to the next
};

constexpr int MOST_RANK = 8;
constexpr int64_t SLACK = 256;  // readable bytes behind the arena and the constants

// Elements of 4 bytes: offset + Σ index × stride.
struct View {
    int64_t buffer = -1;
    int64_t offset = 0;
    int rank = 0;
    int64_t sizes[MOST_RANK] = {}, strides[MOST_RANK] = {};

    int64_t count() const {
        int64_t product = 1;
        for (int i = 0; i < rank; ++i) product *= sizes[i];
        return product;
    }
};

struct Shape {
    int64_t rank = 0;
    int64_t sizes[MOST_RANK] = {};  // -k is k × the batch

    int64_t count() const {
        int64_t product = 1;
        for (int64_t i = 0; i < rank; ++i) product *= sizes[i] < 0 ? -sizes[i] : sizes[i];
        return product;
    }
};

class Run;

// One step, checked; it may be run from several threads.
class Step {
  public:
    virtual ~Step() = default;
    virtual void run(const Run& run) const = 0;
    virtual int64_t scratch() const { return 0; }  // bytes of each thread

    When when = When::always;
};

struct Program {
    const uint8_t* data = nullptr;
    int64_t arena = 0;     // bytes for one image
    int64_t products = 0;  // multiplications for one image
    int64_t types = 0;     // that may come in, a bit each
    int64_t scratch = 0;   // bytes of a thread
    Shape input, output;
    std::vector<Buffer> buffers;
    std::vector<size_t> addressed;  // buffers that steps ask for while they run
    std::vector<std::unique_ptr<Step>> steps;
    const Kernels* kernels = nullptr;

    bool takes(Type type) const { return (types >> static_cast<int>(type) & 1) != 0; }
    // Images that go through together, so that weights are read once for all of them.
    int64_t block(int64_t images) const;
    // Bytes that `run` needs, for so many images and threads.
    int64_t room(int64_t images, int threads) const;
};

// Names of the kinds of steps, in the order of their numbers.
const std::vector<const char*>& step_kinds();

// Reads a Program in place: `data`, aligned to 64 bytes, must outlive it. Throws
// std::invalid_argument, saying what is wrong.
std::unique_ptr<Program> load(const uint8_t* data, int64_t size, const std::string& isa);

// Results of `images` inputs of a type, in `room` bytes of memory aligned to 64. Allocates nothing.
void run(const Program& program, const void* input, Type type, int64_t images, float* output,
         uint8_t* room, int threads);

}  // namespace tritbench
