#include "network.h"

#include <algorithm>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "isas.h"
#include "ops.h"

namespace tritbench {
namespace {

void require(bool holds, const std::string& what) {
    if (!holds) throw std::invalid_argument(what);
}

template <class T>
void require_size(const std::vector<T>& values, int64_t size, const std::string& what) {
    require(static_cast<int64_t>(values.size()) == size,
            what + " has " + std::to_string(values.size()) + " elements, expected " +
                std::to_string(size));
}

// The operations must fit the map [height, width, channels]; returns the height and width after.
std::pair<int64_t, int64_t> validate_ops(const std::vector<Op>& ops, int64_t channels,
                                         int64_t height, int64_t width, const std::string& where) {
    for (const Op& op : ops) {
        if (op.kind == OpKind::affine) {
            const auto size = static_cast<int64_t>(op.scale.size());
            require(size == channels || size == channels * height * width,
                    where + ": affine of " + std::to_string(size) + " features");
            require_size(op.bias, size, where + ": affine's bias");
        } else if (op.kind != OpKind::relu) {
            const Window& w = op.window;
            require(w.height >= 1 && w.width >= 1 && w.step_y >= 1 && w.step_x >= 1 &&
                        w.height <= height && w.width <= width,
                    where + ": a window of " + std::to_string(w.height) + "×" +
                        std::to_string(w.width) + " over " + std::to_string(height) + "×" +
                        std::to_string(width));
            height = pooled(height, w.height, w.step_y);
            width = pooled(width, w.width, w.step_x);
        }
    }
    return {height, width};
}

void validate_stage(const Stage& s, bool first, const std::string& where) {
    require(s.channels >= 1 && s.height >= 1 && s.width >= 1 && s.pad_y >= 0 && s.pad_x >= 0 &&
                s.outputs >= 1 && s.out_height >= 1 && s.out_width >= 1 && s.step_y >= 1 &&
                s.step_x >= 1,
            where + ": a size that is not positive");
    require(!s.planar || first, where + ": only the first stage may be planar");
    const int64_t blocks = static_cast<int64_t>(s.offsets.size()) / DWORDS;
    const auto groups = static_cast<int64_t>(s.group_blocks.size());
    require_size(s.offsets, blocks * DWORDS, where + ": offsets");
    require(groups >= 1 && s.group_blocks.back() == blocks, where + ": groups end before blocks");
    int32_t before = 0;
    for (const int32_t end : s.group_blocks) {
        require(end > before, where + ": an empty group");
        before = end;
    }
    require_size(s.code_bytes, s.panels() * blocks * BLOCK_BYTES + BLOCK_BYTES, where + ": codes");
    require_size(s.sums, groups * s.lanes(), where + ": sums");
    require_size(s.values.scales, groups * s.lanes(), where + ": scales");
    require_size(s.values.bias, s.lanes(), where + ": bias");
    for (const auto* scales : {&s.values.scales, &s.pixels.scales})
        for (const float scale : *scales) require(scale >= 0, where + ": a negative scale");
    for (const int32_t offset : s.offsets)
        require(offset >= 0, where + ": offset " + std::to_string(offset));
    require(s.reach() <= s.padded() + DWORD_INPUTS - 1,  // the slack behind activations
            where + ": element " + std::to_string(s.reach()) + " of " + std::to_string(s.padded()));
    if (!first) return;
    require_size(s.pixels.scales, groups * s.lanes(), where + ": pixel scales");
    require_size(s.row_class, s.out_height, where + ": row classes");
    require_size(s.column_class, s.out_width, where + ": column classes");
    const int64_t classes = static_cast<int64_t>(s.pixels.bias.size()) / s.lanes();
    for (const int32_t row : s.row_class)
        for (const int32_t column : s.column_class)
            require(row >= 0 && column >= 0 && row + column < classes,
                    where + ": class " + std::to_string(row + column) + " of " +
                        std::to_string(classes));
}

}  // namespace

const Kernels* find_kernels(const std::string& name) {
    if (name == "avx512vnni") return avx512vnni_kernels();
    if (name == "avxvnni") return avxvnni_kernels();
    if (name == "avx2") return avx2_kernels();
    if (name == "neon") return neon_kernels();
    if (name == "generic") return generic_kernels();
    return nullptr;
}

int64_t Stage::reach() const {
    const int64_t pixel = planar ? 1 : channels, line = (width + 2 * pad_x) * pixel;
    const int64_t last = (out_height - 1) * step_y * line + (out_width - 1) * step_x * pixel;
    return last + *std::max_element(offsets.begin(), offsets.end()) + DWORD_INPUTS;
}

Weights Stage::weights(bool from_pixels) const {
    const Epilogue& epilogue = from_pixels ? pixels : values;
    return {panels(),
            static_cast<int64_t>(offsets.size()) / DWORDS,
            static_cast<int64_t>(group_blocks.size()),
            codes,
            offsets.data(),
            group_blocks.data(),
            epilogue.scales.data(),
            sums.data(),
            relu};
}

int64_t Network::products() const {
    int64_t products = 0;
    for (const Stage& stage : stages)
        products +=
            stage.positions() * stage.lanes() * static_cast<int64_t>(stage.offsets.size()) * 4;
    return products;
}

void validate(const Network& network) {
    require(network.channels >= 1 && network.height >= 1 && network.width >= 1,
            "an image of no pixels");
    require(!network.stages.empty(), "a network without weights");
    require(network.threads >= 1,
            std::to_string(network.threads) + " threads, expected at least 1");
    int64_t channels = network.channels;
    auto [height, width] =
        validate_ops(network.input_ops, channels, network.height, network.width, "input");
    for (size_t i = 0; i < network.stages.size(); ++i) {
        const Stage& stage = network.stages[i];
        const std::string where = "stage " + std::to_string(i);
        require(stage.channels == channels && stage.height == height && stage.width == width,
                where + " does not take what comes before it");
        validate_stage(stage, i == 0, where);
        channels = stage.outputs;
        std::tie(height, width) =
            validate_ops(stage.ops, channels, stage.out_height, stage.out_width, where);
    }
    require(!network.stages[0].planar || network.input_ops.empty(), "stage 0 is planar after ops");
    require(!network.order.empty(), "a network without logits");
    const int64_t size = height * width * network.stages.back().lanes();
    for (const int32_t at : network.order)
        require(at >= 0 && at < size,
                "logit " + std::to_string(at) + " of " + std::to_string(size));
}

}  // namespace tritbench
