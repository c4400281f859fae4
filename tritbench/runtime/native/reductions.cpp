// Norms, softmax, sums over dimensions and pools.

#include <algorithm>
#include <cmath>
#include <limits>

#include "context.h"
#include "steps.h"

namespace tritbench {
namespace {

// Rows [rows, n] one after another where `together`.
void check_rows(const View& x, const View& out) {
    require(x.rank == out.rank, "out has other dimensions");
    for (int i = 0; i < x.rank; ++i) require(x.sizes[i] == out.sizes[i], "out has another size");
    require((x.strides[x.rank - 1] == 1 || x.sizes[x.rank - 1] == 1) &&
                (out.strides[x.rank - 1] == 1 || out.sizes[x.rank - 1] == 1),
            "rows with gaps");
}

// Of one or as many elements as there are features, or none.
const float* read_features(Reader& r, int64_t count, const char* what) {
    const int64_t found = r.constant_count();
    const float* values = r.constant<float>(found == 0 ? 0 : count, what);
    return found == 0 ? nullptr : values;
}

class LayerNorm : public Step {
  public:
    explicit LayerNorm(Reader& r) {
        x_ = r.view(2, "x");
        eps_ = r.number();
        weight_ = read_features(r, x_.sizes[1], "weight");
        bias_ = read_features(r, x_.sizes[1], "bias");
        out_ = r.writable_view(2, "out");
        check_rows(x_, out_);
    }
    void run(const Run& run) const override {
        const int64_t rows = x_.sizes[0], count = x_.sizes[1];
        for (int64_t i = 0; i < run.images; ++i)
            run.parallel(rows, static_cast<double>(count) / 2, 1,
                         [&](int64_t from, int64_t end, uint8_t*) {
                             run.program.kernels->floats.layer_norm(
                                 run.at(x_, i) + from * x_.strides[0], end - from, count,
                                 x_.strides[0], weight_, bias_, eps_,
                                 run.at(out_, i) + from * out_.strides[0], out_.strides[0]);
                         });
    }

  private:
    View x_, out_;
    float eps_;
    const float *weight_, *bias_;
};

class GroupNorm : public Step {
  public:
    explicit GroupNorm(Reader& r) {
        x_ = r.view(3, "x");
        groups_ = r.size("groups");
        eps_ = r.number();
        weight_ = read_features(r, x_.sizes[2], "weight");
        bias_ = read_features(r, x_.sizes[2], "bias");
        out_ = r.writable_view(3, "out");
        check_rows(x_, out_);
        require(x_.sizes[2] % groups_ == 0, "groups of unequal size");
    }
    void run(const Run& run) const override {
        const int64_t maps = x_.sizes[0];
        run.parallel(run.images * maps, static_cast<double>(x_.sizes[1] * x_.sizes[2]), 1,
                     [&](int64_t from, int64_t end, uint8_t*) {
                         for (; from < end; ++from) {
                             const int64_t i = from / maps, m = from % maps;
                             run.program.kernels->floats.group_norm(
                                 run.at(x_, i) + m * x_.strides[0], x_.sizes[1], x_.sizes[2],
                                 groups_, x_.strides[1], weight_, bias_, eps_,
                                 run.at(out_, i) + m * out_.strides[0], out_.strides[1]);
                         }
                     });
    }

  private:
    View x_, out_;
    int64_t groups_;
    float eps_;
    const float *weight_, *bias_;
};

class Softmax : public Step {
  public:
    explicit Softmax(Reader& r) {
        x_ = r.view(2, "x");
        log_ = r.flag("log");
        out_ = r.writable_view(2, "out");
        check_rows(x_, out_);
    }
    void run(const Run& run) const override {
        for (int64_t i = 0; i < run.images; ++i)
            run.parallel(x_.sizes[0], static_cast<double>(x_.sizes[1]), 1,
                         [&](int64_t from, int64_t end, uint8_t*) {
                             run.program.kernels->floats.softmax(
                                 run.at(x_, i) + from * x_.strides[0], end - from, x_.sizes[1],
                                 x_.strides[0], log_, run.at(out_, i) + from * out_.strides[0],
                                 out_.strides[0]);
                         });
    }

  private:
    View x_, out_;
    bool log_;
};

enum class Reduction : int64_t { mean, sum, amax, amin, norm, count };

class Reduce : public Step {
  public:
    explicit Reduce(Reader& r) {
        x_ = r.view(0, "x");
        dims_ = static_cast<int>(r.integer(1, x_.rank - 1, "dims"));
        how_ = static_cast<Reduction>(
            r.integer(0, static_cast<int64_t>(Reduction::count) - 1, "a reduction"));
        order_ = r.number();
        kept_ = x_.rank - dims_;
        out_ = r.writable_view(kept_, "out");
        for (int d = 0; d < kept_; ++d) {
            require(x_.sizes[d] == out_.sizes[d], "out has another size");
            outputs_ = multiplied(outputs_, x_.sizes[d]);
        }
        for (int d = kept_; d < x_.rank; ++d) {
            count_ = multiplied(count_, x_.sizes[d]);
        }
        multiplied(outputs_, count_);
    }

    void run(const Run& run) const override {
        const int64_t width = out_.sizes[kept_ - 1], rows = outputs_ / width;
        // Pieces of the last kept dimension, side by side.
        const int64_t pieces = (width + PIECE - 1) / PIECE;
        run.parallel(run.images * rows * pieces, static_cast<double>(PIECE * count_) / 4, 1,
                     [&](int64_t from, int64_t end, uint8_t*) {
                         for (; from < end; ++from)
                             reduce(run, from / pieces / rows, from / pieces % rows,
                                    from % pieces * PIECE);
                     });
    }

  private:
    static constexpr int64_t PIECE = 64;

    void reduce(const Run& run, int64_t image, int64_t row, int64_t first) const {
        const int last = kept_ - 1;
        int64_t from_at = first * x_.strides[last], to_at = first * out_.strides[last];
        for (int d = last - 1; d >= 0; --d) {
            from_at += row % x_.sizes[d] * x_.strides[d];
            to_at += row % x_.sizes[d] * out_.strides[d];
            row /= x_.sizes[d];
        }
        const int64_t width = std::min(PIECE, x_.sizes[last] - first), step = x_.strides[last];
        const float* from = run.at(x_, image) + from_at;
        float* to = run.at(out_, image) + to_at;
        float results[PIECE];
        fold(from, step, width, results);
        for (int64_t i = 0; i < width; ++i) to[i * out_.strides[last]] = finish(results[i]);
    }

    void fold(const float* from, int64_t step, int64_t width, float* results) const {
        const float endless = std::numeric_limits<float>::infinity();
        const auto with = [&](float start, const auto& f) {
            std::fill_n(results, width, start);
            int64_t at[MOST_RANK] = {};
            for (int64_t k = 0; k < count_; ++k) {
                const auto next = [&](auto unit) {
                    const int64_t apart = decltype(unit)::value ? 1 : step;
                    for (int64_t i = 0; i < width; ++i) results[i] = f(results[i], from[i * apart]);
                };
                if (step == 1)
                    next(std::true_type());
                else
                    next(std::false_type());
                for (int d = x_.rank - 1; d >= kept_; --d) {
                    from += x_.strides[d];
                    if (++at[d] < x_.sizes[d]) break;
                    from -= x_.sizes[d] * x_.strides[d];
                    at[d] = 0;
                }
            }
        };
        switch (how_) {
            case Reduction::amax:
                return with(-endless, [](float a, float v) { return a != a || a > v ? a : v; });
            case Reduction::amin:
                return with(endless, [](float a, float v) { return a != a || a < v ? a : v; });
            case Reduction::norm:
                if (order_ == 2) return with(0, [](float a, float v) { return a + v * v; });
                if (order_ == 1) return with(0, [](float a, float v) { return a + std::fabs(v); });
                if (order_ == endless)
                    return with(0, [](float a, float v) {
                        return a != a || a > std::fabs(v) ? a : std::fabs(v);
                    });
                return with(0, [&](float a, float v) {
                    return a + static_cast<float>(std::pow(double{std::fabs(v)}, double{order_}));
                });
            default:
                return with(0, [](float a, float v) { return a + v; });
        }
    }

    float finish(float value) const {
        if (how_ == Reduction::mean) return value / static_cast<float>(count_);
        if (how_ != Reduction::norm || order_ == 1 || std::isinf(order_)) return value;
        if (order_ == 2) return std::sqrt(value);
        return static_cast<float>(std::pow(double{value}, 1 / double{order_}));
    }

    View x_, out_;
    int dims_, kept_;
    Reduction how_;
    float order_;
    int64_t outputs_ = 1, count_ = 1;
};

}  // namespace

std::unique_ptr<Step> make_LayerNorm(Reader& r) { return std::make_unique<LayerNorm>(r); }
std::unique_ptr<Step> make_GroupNorm(Reader& r) { return std::make_unique<GroupNorm>(r); }
std::unique_ptr<Step> make_Softmax(Reader& r) { return std::make_unique<Softmax>(r); }
std::unique_ptr<Step> make_Reduce(Reader& r) { return std::make_unique<Reduce>(r); }

}  // namespace tritbench
