#include "program.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "context.h"
#include "reader.h"
#include "steps.h"

namespace tritbench {
namespace {

constexpr int64_t MAGIC = 0x676F727074697274;  // "tritprog"
constexpr int64_t VERSION = 2;
constexpr int64_t HEAD = 32;  // words
constexpr int64_t BLOCK_IMAGES = 128;
constexpr int64_t BLOCK_MEMORY = 512 << 10;  // bytes of activations of a block

Shape read_shape(Reader& reader, const char* what) {
    Shape shape;
    shape.rank = reader.integer(1, MOST_RANK, what);
    int64_t count = 1;
    for (int i = 0; i < MOST_RANK; ++i) {
        const int64_t size = reader.integer(-LARGEST, LARGEST, what);
        if (i >= shape.rank) continue;
        require(size != 0, std::string(what) + " has a size of 0");
        shape.sizes[i] = size;
        count = multiplied(count, size < 0 ? -size : size);
    }
    return shape;
}

void read_buffers(Program& program, const int64_t* at, int64_t count, int64_t size) {
    int64_t outputs = 0;
    for (int64_t i = 0; i < count; ++i, at += 3) {
        const std::string where = "buffer " + std::to_string(i);
        require(at[0] >= 0 && at[0] <= 3 && at[1] >= 0 && at[1] <= MOST &&
                    at[2] >= (at[0] == 3 ? 0 : 1) && at[2] <= MOST,
                where + " is nowhere");
        Buffer buffer{static_cast<Place>(at[0]), at[1], at[2], at[2]};
        require((buffer.place == Place::input) == (i == 0), where + ": the input is the first");
        switch (buffer.place) {
            case Place::arena:
                buffer.apart = aligned(buffer.bytes);
                require(buffer.offset % BLOCK_BYTES == 0 &&
                            buffer.offset + buffer.apart <= program.arena,
                        where + " ends behind the arena");
                break;
            case Place::constant:
                buffer.apart = 0;
                require(buffer.offset % BLOCK_BYTES == 0 &&
                            buffer.offset + buffer.bytes + SLACK <= size,
                        where + " ends behind the Program");
                break;
            case Place::output:
                ++outputs;
                require(buffer.bytes == program.output.count() * 4,
                        where + " is not as large as the output");
                break;
            case Place::input:
                break;
        }
        program.buffers.push_back(buffer);
    }
    require(outputs == 1, std::to_string(outputs) + " outputs, expected one");
}

void read_steps(Program& program, const int64_t* at, const int64_t* end, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
        require(end - at >= 3, "fewer steps than the head says");
        const auto kinds = static_cast<int64_t>(step_kinds().size());
        require(at[0] >= 0 && at[0] < kinds && at[1] >= 0 && at[1] <= 2 && at[2] >= 0 &&
                    at[2] <= end - at - 3,
                "step " + std::to_string(i) + " is of no kind or length");
        const char* name = step_kinds()[as_size(at[0])];
        const auto when = static_cast<When>(at[1]);
        Reader reader(program, at + 3, at + 3 + at[2], when);
        try {
            program.steps.push_back(make_step(at[0], reader));
            require(reader.done(), "too many words");
        } catch (const std::invalid_argument& error) {
            throw std::invalid_argument("step " + std::to_string(i) + " (" + name +
                                        "): " + error.what());
        }
        program.steps.back()->when = when;
        program.scratch = std::max(program.scratch, aligned(program.steps.back()->scratch()));
        at += 3 + at[2];
    }
    require(at == end, "more steps than the head says");
}

}  // namespace

std::unique_ptr<Program> load(const uint8_t* data, int64_t size, const std::string& isa) {
    require(reinterpret_cast<uintptr_t>(data) % BLOCK_BYTES == 0,
            "a Program that is not aligned to 64 bytes");
    require(size >= HEAD * 8, "a Program of " + std::to_string(size) + " bytes");
    const auto* words = reinterpret_cast<const int64_t*>(data);
    require(words[0] == MAGIC, "not a Program");
    require(words[1] == VERSION, "a Program of version " + std::to_string(words[1]) +
                                     ", expected " + std::to_string(VERSION));
    auto program = std::make_unique<Program>();
    program->data = data;
    program->kernels = find_kernels(isa);
    require(program->kernels != nullptr,
            "no kernels for the instruction set '" + isa + "' in this build or on this machine");
    Reader head(*program, words + 2, words + HEAD, When::always);
    require(head.word() == size, "a Program that was cut off, or has more behind it");
    const int64_t buffers = head.integer(1, 1 << 20, "buffers");
    const int64_t steps = head.integer(1, 1 << 20, "steps");
    const int64_t count = head.integer(1, size / 8, "words");
    program->arena = head.integer(0, MOST, "the arena");
    program->products = head.integer(0, int64_t{1} << 50, "products");
    program->types = head.integer(1, 7, "types");
    program->input = read_shape(head, "the input");
    program->output = read_shape(head, "the output");
    const int64_t start = HEAD + 3 * buffers;
    require(start + count <= size / 8, "fewer words than the head says");
    read_buffers(*program, words + HEAD, buffers, size);
    read_steps(*program, words + start, words + start + count, steps);
    std::vector<size_t>& addressed = program->addressed;
    std::sort(addressed.begin(), addressed.end());
    addressed.erase(std::unique(addressed.begin(), addressed.end()), addressed.end());
    return program;
}

int64_t Program::block(int64_t images) const {
    const int64_t most =
        std::clamp(BLOCK_MEMORY / std::max<int64_t>(arena, 1), int64_t{1}, BLOCK_IMAGES);
    return std::min(images, most > 4 ? most / 4 * 4 : most);
}

int64_t Program::room(int64_t images, int threads) const {
    const int64_t together = block(images);
    return aligned(static_cast<int64_t>(buffers.size() * sizeof(void*))) + aligned(together) +
           threads * scratch + together * arena + SLACK;
}

void run(const Program& program, const void* input, Type type, int64_t images, float* output,
         uint8_t* room, int threads) {
    const int64_t together = program.block(images), outputs = program.output.count();
    auto** bases = reinterpret_cast<uint8_t**>(room);
    room += aligned(static_cast<int64_t>(program.buffers.size() * sizeof(void*)));
    uint8_t* spoiled = room;
    room += aligned(together);
    uint8_t* scratch = room;
    room += threads * program.scratch;
    const int64_t size = program.input.count() * bytes_of(type);
    const When other = type == Type::uint8 ? When::floats : When::pixels;
    for (int64_t first = 0; first < images; first += together) {
        const int64_t count = std::min(together, images - first);
        for (const size_t i : program.addressed) {
            const Buffer& buffer = program.buffers[i];
            switch (buffer.place) {
                case Place::arena:
                    bases[i] = room + buffer.offset * count;
                    break;
                case Place::constant:
                    bases[i] = const_cast<uint8_t*>(program.data) + buffer.offset;
                    break;
                case Place::input:
                    bases[i] =
                        const_cast<uint8_t*>(static_cast<const uint8_t*>(input)) + first * size;
                    break;
                case Place::output:
                    bases[i] = reinterpret_cast<uint8_t*>(output + first * outputs);
                    break;
            }
        }
        std::memset(spoiled, 0, as_size(count));
        const Run context(program, count, size, bases, scratch, spoiled, threads);
        for (const auto& step : program.steps)
            if (step->when != other) step->run(context);
        for (int64_t i = 0; i < count; ++i)
            if (spoiled[i])
                std::fill_n(output + (first + i) * outputs, outputs,
                            std::numeric_limits<float>::quiet_NaN());
    }
}

}  // namespace tritbench
