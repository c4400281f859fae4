// Elementwise functions, sums over dimensions, and elements moved.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "context.h"
#include "posts.h"
#include "steps.h"

namespace tritbench {
namespace {

// visit(row, offsets of each of N views) for the rows from..end of views of the same sizes; a row
// is the last dimension.
template <size_t N, class Visit>
void each_row(const View* const (&views)[N], int64_t from, int64_t end, const Visit& visit) {
    const View& first = *views[0];
    int64_t at[MOST_RANK] = {}, offsets[N] = {};
    int64_t rest = from;
    for (int d = first.rank - 2; d >= 0; --d) {
        at[d] = rest % first.sizes[d];
        rest /= first.sizes[d];
        for (size_t n = 0; n < N; ++n) offsets[n] += at[d] * views[n]->strides[d];
    }
    for (int64_t row = from; row < end; ++row) {
        visit(offsets);
        for (int d = first.rank - 2; d >= 0; --d) {
            for (size_t n = 0; n < N; ++n) offsets[n] += views[n]->strides[d];
            if (++at[d] < first.sizes[d]) break;
            for (size_t n = 0; n < N; ++n) offsets[n] -= first.sizes[d] * views[n]->strides[d];
            at[d] = 0;
        }
    }
}

int64_t row_count(const View& view) { return view.count() / view.sizes[view.rank - 1]; }

void require_same(const View& a, const View& b) {
    require(a.rank == b.rank, "views of other dimensions");
    for (int i = 0; i < a.rank; ++i) require(a.sizes[i] == b.sizes[i], "views of other sizes");
    int64_t count = 1;
    for (int i = 0; i < a.rank; ++i) count = multiplied(count, a.sizes[i]);
}

void copy_row(const float* from, int64_t step, int64_t count, float* to, int64_t to_step) {
    if (step == 1 && to_step == 1)
        std::memmove(to, from, as_size(count) * sizeof(float));
    else if (step == 0 && to_step == 1)
        std::fill_n(to, count, *from);
    else
        for (int64_t i = 0; i < count; ++i) to[i * to_step] = from[i * step];
}

class Elementwise : public Step {
  public:
    explicit Elementwise(Reader& r) {
        x_ = r.view(0, "x");
        posts_ = read_posts(r, x_.rank);
        out_ = r.writable_view(x_.rank, "out");
        require_same(x_, out_);
        check_posts(posts_, out_);
        require(out_.strides[out_.rank - 1] == 1 || out_.sizes[out_.rank - 1] == 1, "out has gaps");
    }

    void run(const Run& run) const override {
        const int64_t rows = row_count(out_), size = out_.sizes[out_.rank - 1];
        // Long rows are cut.
        constexpr int64_t PIECE = 4096;
        const int64_t pieces = (size + PIECE - 1) / PIECE;
        const double time = static_cast<double>(std::min(size, PIECE)) *
                            (0.2 + 0.3 * static_cast<double>(posts_.size()));
        run.parallel(run.images * rows * pieces, time, 1, [&](int64_t from, int64_t end, uint8_t*) {
            for (; from < end; ++from) {
                const int64_t piece = from % pieces, row = from / pieces % rows;
                compute(run, from / pieces / rows, row, piece * PIECE,
                        std::min(PIECE, size - piece * PIECE));
            }
        });
    }

  private:
    static int64_t at(const View& view, int64_t row) {
        int64_t offset = 0;
        for (int d = view.rank - 2; d >= 0; --d) {
            offset += row % view.sizes[d] * view.strides[d];
            row /= view.sizes[d];
        }
        return offset;
    }

    void compute(const Run& run, int64_t image, int64_t row, int64_t first, int64_t count) const {
        const int last = out_.rank - 1;
        const auto place = [&](const View& view) {
            return run.at(view, image) + at(view, row) + first * view.strides[last];
        };
        float* to = place(out_);
        const float* from = place(x_);
        if (from != to || x_.strides[last] != 1) copy_row(from, x_.strides[last], count, to, 1);
        for (const Post& post : posts_)
            apply(*run.program.kernels, post, post.has_operand ? place(post.operand) : nullptr, 0,
                  post.has_operand ? post.operand.strides[last] : 0, 1, count, to, count);
    }

    View x_, out_;
    std::vector<Post> posts_;
};

class Copy : public Step {
  public:
    explicit Copy(Reader& r) {
        x_ = r.view(0, "x");
        out_ = r.writable_view(x_.rank, "out");
        require_same(x_, out_);
    }
    void run(const Run& run) const override {
        const int64_t rows = row_count(out_);
        const int last = out_.rank - 1;
        for (int64_t i = 0; i < run.images; ++i) {
            const float* from = run.at(x_, i);
            float* to = run.at(out_, i);
            const View* views[] = {&x_, &out_};
            run.parallel(rows, static_cast<double>(x_.sizes[last]) / 2, 1,
                         [&](int64_t first, int64_t end, uint8_t*) {
                             each_row(views, first, end, [&](const int64_t (&at)[2]) {
                                 copy_row(from + at[0], x_.strides[last], x_.sizes[last],
                                          to + at[1], out_.strides[last]);
                             });
                         });
        }
    }

  private:
    View x_, out_;
};

class Gather : public Step {
  public:
    explicit Gather(Reader& r) {
        x_ = r.view(3, "x");
        count_ = r.constant_count();
        table_ = r.constant<int32_t>(count_, "table");
        fill_ = r.number();
        out_ = r.writable_view(3, "out");
        require(
            out_.sizes[0] == x_.sizes[0] && out_.sizes[2] == x_.sizes[2] && out_.sizes[1] == count_,
            "out has another size");
        for (int64_t k = 0; k < count_; ++k)
            require(table_[k] >= -1 && table_[k] < x_.sizes[1], "an index that is beyond");
    }
    void run(const Run& run) const override {
        for (int64_t i = 0; i < run.images; ++i)
            run.parallel(x_.sizes[0], static_cast<double>(count_ * x_.sizes[2]) / 2, 1,
                         [&](int64_t first, int64_t end, uint8_t*) {
                             for (int64_t k = first; k < end; ++k)
                                 gather(run.at(x_, i) + k * x_.strides[0],
                                        run.at(out_, i) + k * out_.strides[0]);
                         });
    }

  private:
    void gather(const float* from, float* to) const {
        for (int64_t k = 0; k < count_; ++k, to += out_.strides[1])
            if (table_[k] < 0)
                copy_row(&fill_, 0, x_.sizes[2], to, out_.strides[2]);
            else
                copy_row(from + table_[k] * x_.strides[1], x_.strides[2], x_.sizes[2], to,
                         out_.strides[2]);
    }

    View x_, out_;
    int64_t count_;
    const int32_t* table_;
    float fill_;
};

class Embedding : public Step {
  public:
    explicit Embedding(Reader& r) {
        indices_ = r.view(1, "indices");
        const int64_t size = r.constant_count();
        weights_ = r.constant<float>(size, "weights");
        out_ = r.writable_view(2, "out");
        require(out_.sizes[0] == indices_.sizes[0] && out_.strides[1] == 1, "out has another size");
        require(size % out_.sizes[1] == 0, "weights have other features");
        entries_ = size / out_.sizes[1];
    }
    void run(const Run& run) const override {
        const int64_t features = out_.sizes[1];
        for (int64_t i = 0; i < run.images; ++i) {
            const int32_t* indices = run.at<int32_t>(indices_, i);
            float* to = run.at(out_, i);
            for (int64_t k = 0; k < out_.sizes[0]; ++k, to += out_.strides[0]) {
                const int64_t index = indices[k * indices_.strides[0]];
                if (index >= 0 && index < entries_) {
                    std::copy_n(weights_ + index * features, features, to);
                    continue;
                }
                std::fill_n(to, features, 0.0F);  // there is no such entry
                run.spoil(i);
            }
        }
    }

  private:
    View indices_, out_;
    const float* weights_;
    int64_t entries_;
};

}  // namespace

std::unique_ptr<Step> make_Elementwise(Reader& r) { return std::make_unique<Elementwise>(r); }
std::unique_ptr<Step> make_Copy(Reader& r) { return std::make_unique<Copy>(r); }
std::unique_ptr<Step> make_Gather(Reader& r) { return std::make_unique<Gather>(r); }
std::unique_ptr<Step> make_Embedding(Reader& r) { return std::make_unique<Embedding>(r); }

}  // namespace tritbench
