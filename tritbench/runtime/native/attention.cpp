// Attention, and products of two results.

#include <algorithm>
#include <limits>

#include "context.h"
#include "steps.h"

namespace tritbench {
namespace {

constexpr double FLOAT_PRODUCTS = 30;  // a nanosecond
constexpr float ENDLESS = std::numeric_limits<float>::infinity();

void require_sizes(const View& view, const View& like, int64_t rows, int64_t columns,
                   const char* what) {
    for (int i = 0; i < 3; ++i)
        require(view.sizes[i] == like.sizes[i], std::string(what) + " has other heads");
    require(view.sizes[3] == rows && view.sizes[4] == columns,
            std::string(what) + " has another size");
}

void require_together(const View& view, const char* what) {
    require(view.strides[4] == 1 || view.sizes[4] == 1, std::string(what) + " has gaps");
}

int64_t matrices(const View& view) { return view.sizes[0] * view.sizes[1] * view.sizes[2]; }

int64_t matrix_at(const View& view, int64_t i) {
    const int64_t c = i % view.sizes[2], b = i / view.sizes[2] % view.sizes[1];
    return i / view.sizes[2] / view.sizes[1] * view.strides[0] + b * view.strides[1] +
           c * view.strides[2];
}

class AttentionStep : public Step {
  public:
    explicit AttentionStep(Reader& r) {
        query_ = r.view(5, "query");
        key_ = r.view(5, "key");
        value_ = r.view(5, "value");
        const int64_t mask = r.word();
        if (mask != -1) mask_ = r.view_of(mask, 5, "mask");
        causal_ = r.flag("causal");
        scale_ = r.number();
        out_ = r.writable_view(5, "out");
        const int64_t queries = query_.sizes[3], keys = key_.sizes[3], size = query_.sizes[4];
        require_sizes(key_, query_, keys, size, "key");
        require_sizes(value_, query_, keys, value_.sizes[4], "value");
        require_sizes(out_, query_, queries, value_.sizes[4], "out");
        if (mask_.buffer >= 0) {
            require_sizes(mask_, query_, queries, keys, "mask");
            require_together(mask_, "mask");
        }
        for (const View* view : {&query_, &key_, &value_, &out_}) require_together(*view, "a head");
        multiplied(multiplied(keys, size), value_.sizes[4]);
    }

    int64_t scratch() const override {
        return attention_room(key_.sizes[3], query_.sizes[4], value_.sizes[4]) *
               int64_t{sizeof(float)};
    }

    void run(const Run& run) const override {
        const int64_t heads = matrices(query_);
        const int64_t keys = key_.sizes[3], queries = query_.sizes[3];
        const double products = static_cast<double>(queries * keys) *
                                static_cast<double>(query_.sizes[4] + value_.sizes[4]);
        run.parallel(run.images * heads, products / FLOAT_PRODUCTS, 1,
                     [&](int64_t from, int64_t end, uint8_t* scratch) {
                         for (; from < end; ++from)
                             attend(run, from / heads, from % heads,
                                    reinterpret_cast<float*>(scratch));
                     });
    }

  private:
    void attend(const Run& run, int64_t image, int64_t head, float* room) const {
        const auto at = [&](const View& view) {
            return run.at(view, image) + matrix_at(view, head);
        };
        const Attention one{query_.sizes[3],
                            key_.sizes[3],
                            query_.sizes[4],
                            value_.sizes[4],
                            at(query_),
                            at(key_),
                            at(value_),
                            query_.strides[3],
                            key_.strides[3],
                            value_.strides[3],
                            mask_.buffer < 0 ? nullptr : at(mask_),
                            mask_.strides[3],
                            causal_,
                            scale_};
        run.program.kernels->floats.attention(one, 0, one.queries, room, at(out_), out_.strides[3]);
    }

    View query_, key_, value_, mask_, out_;
    bool causal_;
    float scale_;
};

class MatMul : public Step {
  public:
    explicit MatMul(Reader& r) {
        x_ = r.view(5, "x");
        y_ = r.view(5, "y");
        out_ = r.writable_view(5, "out");
        require_together(x_, "x");
        require_together(out_, "out");
        require_sizes(y_, x_, x_.sizes[4], y_.sizes[4], "y");
        require_sizes(out_, x_, x_.sizes[3], y_.sizes[4], "out");
        multiplied(x_.sizes[4], y_.sizes[4] + LANES);
    }

    int64_t scratch() const override {
        return x_.sizes[4] * round_up(y_.sizes[4], LANES) * int64_t{sizeof(float)};
    }

    void run(const Run& run) const override {
        const int64_t count = matrices(x_);
        const int64_t rows = x_.sizes[3], inner = x_.sizes[4], columns = y_.sizes[4];
        const double products = static_cast<double>(rows * inner) * static_cast<double>(columns);
        const FloatKernels& kernels = run.program.kernels->floats;
        run.parallel(run.images * count, products / FLOAT_PRODUCTS, 1,
                     [&](int64_t from, int64_t end, uint8_t* scratch) {
                         auto* room = reinterpret_cast<float*>(scratch);
                         const FloatPanels panels{columns, 1,       inner,    nullptr,
                                                  room,    nullptr, -ENDLESS, ENDLESS};
                         for (; from < end; ++from) {
                             const int64_t i = from / count, m = from % count;
                             kernels.pack_panels(run.at(y_, i) + matrix_at(y_, m), inner, columns,
                                                 y_.strides[3], y_.strides[4], room);
                             kernels.matmul(panels, run.at(x_, i) + matrix_at(x_, m), x_.strides[3],
                                            rows, run.at(out_, i) + matrix_at(out_, m),
                                            out_.strides[3]);
                         }
                     });
    }

  private:
    View x_, y_, out_;
};

}  // namespace

std::unique_ptr<Step> make_Attention(Reader& r) { return std::make_unique<AttentionStep>(r); }
std::unique_ptr<Step> make_MatMul(Reader& r) { return std::make_unique<MatMul>(r); }

}  // namespace tritbench
