// Rows of activations times ternary or 8-bit weights: the kernels' rows, panels and epilogues.

#include <algorithm>

#include "context.h"
#include "posts.h"
#include "ranges.h"
#include "requantize.h"
#include "steps.h"
#include "windows.h"

namespace tritbench {
namespace {

constexpr int64_t MOST_ROWS = 256;        // that go through the weights together
constexpr int64_t SHARING_ROWS = 64;      // of dense layers, for each time weights are decoded
constexpr int64_t WARM_BYTES = 48 << 10;  // of results that stay in the first-level cache
constexpr double PRODUCTS = 150;          // a nanosecond

class Product : public Step {
  public:
    explicit Product(Reader& r) {
        data_ = r.buffer();
        exact_ = r.flag("exact");
        // How many maps there are is known later.
        scale_ = r.integer(-1, MOST, "scale");
        zero_ = r.integer(-1, MOST, "zero");
        windows_ = read_windows(r);
        outputs_ = r.size("outputs");
        bytes_ = r.flag("integer");
        read_weights(r);
        read_bias(r);
        low_ = r.number();
        high_ = r.number();
        int64_t pool[2];
        r.sizes(pool, 2, 0, "a pool");
        height_ = windows_.height;
        width_ = windows_.width;
        pool_ = pool[0] != 0;
        if (pool_) {
            require(!exact_ && pool[0] >= 2 && pool[1] >= 2 && height_ >= 2 && width_ >= 2,
                    "pools that overlap");
            step_y_ = pool[0];
            step_x_ = pool[1];
            height_ = (height_ - 2) / step_y_ + 1;
            width_ = (width_ - 2) / step_x_ + 1;
        }
        posts_ = read_posts(r, 4);
        ranges_ = r.integer(-1, MOST, "ranges");
        requantize_.read(r);
        out_ = read_maps(r, windows_.maps, height_, width_, columns(), requantize_.present());
        check_posts(posts_, out_);
        requantize_.check(r, out_);
        check_data(r);
        if (ranges_ >= 0) check_ranges(r, ranges_, range_count());
        require(ranges_ < 0 || out_.buffer >= 0, "ranges of what is not kept");
    }

    int64_t scratch() const override {
        return decoded() + (out_.buffer < 0 ? chunk() * columns() * int64_t{sizeof(float)} : 0);
    }

    void run(const Run& run) const override {
        if (exact_)
            run_rows<float>(run);
        else
            run_rows<uint8_t>(run);
    }

  private:
    int64_t panels() const { return (outputs_ + LANES - 1) / LANES; }
    int64_t lanes() const { return panels() * LANES; }
    int64_t columns() const { return windows_.groups * outputs_; }
    int64_t units() const { return windows_.maps * height_ * width_; }  // results of an image
    int64_t range_count() const { return (units() + RANGE_ROWS - 1) / RANGE_ROWS; }
    int64_t decoded() const {  // bytes
        return exact_ || bytes_ ? 0 : blocks_ * static_cast<int64_t>(sizeof(Decoded));
    }
    int64_t chunk() const {  // results that are finished together
        int64_t rows = MOST_ROWS / (pool_ ? POOLED_ROWS : 1);
        const int64_t least = units() == 1 ? SHARING_ROWS : RANGE_ROWS;
        if (!posts_.empty() || ranges_ >= 0 || requantize_.present())
            rows = std::clamp(WARM_BYTES / (columns() * 4), least, rows);
        return rows / RANGE_ROWS * RANGE_ROWS;
    }

    void read_weights(Reader& r) {
        const int64_t groups = windows_.groups;
        const int64_t code_bytes = bytes_ ? DWORDS * BLOCK_BYTES : BLOCK_BYTES;
        const int64_t panel_count = multiplied(groups, panels());
        const int64_t size = r.constant_count();
        blocks_ = size / panel_count / code_bytes;
        require(blocks_ >= 1 && blocks_ <= LARGEST, "no codes");
        codes_ =
            r.constant<uint8_t>(multiplied(multiplied(panel_count, blocks_), code_bytes), "codes");
        offsets_ = r.constant<int32_t>(blocks_ * DWORDS, "offsets");
        scale_groups_ = r.constant_count();
        require(scale_groups_ >= 1 && scale_groups_ <= LARGEST, "no groups");
        group_blocks_ = r.constant<int32_t>(scale_groups_, "group_blocks");
        int32_t before = 0;
        for (int64_t g = 0; g < scale_groups_; ++g) {
            // 64 × trit × 255, or weight × 255, summed over a group, must fit 32 bits.
            const int64_t most = bytes_ ? int64_t{1} << 16 : int64_t{1} << 17;
            require(group_blocks_[g] > before && group_blocks_[g] <= blocks_ &&
                        int64_t{group_blocks_[g] - before} * DWORDS * DWORD_INPUTS <= most,
                    "a group that is empty or too long");
            before = group_blocks_[g];
        }
        require(before == blocks_, "groups end before blocks");
        const int64_t count = multiplied(multiplied(groups, scale_groups_), lanes());
        scales_ = r.constant<float>(count, "scales");
        sums_ = r.constant<int32_t>(count, "sums");
        const int64_t largest = bytes_ ? int64_t{128} << 16 : int64_t{1} << 17;
        for (int64_t i = 0; i < count; ++i) {
            require(scales_[i] >= 0, "a negative scale");
            require(sums_[i] >= -largest && sums_[i] <= largest, "a sum that cannot be");
        }
        for (int64_t i = 0; i < blocks_ * DWORDS; ++i) {
            require(offsets_[i] >= 0, "an offset below 0");
            reach_ = std::max<int64_t>(reach_, offsets_[i]);
        }
    }

    void read_bias(Reader& r) {
        const int64_t size = multiplied(windows_.groups, lanes());
        const int64_t classes = r.constant_count() / size;
        bias_ = r.constant<float>(multiplied(classes, size), "bias");
        row_class_ = r.constant<int32_t>(windows_.height, "row_class");
        column_class_ = r.constant<int32_t>(windows_.width, "column_class");
        int64_t row = 0, column = 0;
        for (int64_t y = 0; y < windows_.height; ++y) {
            require(row_class_[y] >= 0, "a class below 0");
            row = std::max<int64_t>(row, row_class_[y]);
        }
        for (int64_t x = 0; x < windows_.width; ++x) {
            require(column_class_[x] >= 0, "a class below 0");
            column = std::max<int64_t>(column, column_class_[x]);
        }
        require(row + column < classes,
                "class " + std::to_string(row + column) + " of " + std::to_string(classes));
    }

    void check_data(Reader& r) const {
        const Type type = exact_ ? Type::float32 : Type::uint8;
        // A dword's other three elements meet trits of zero.
        r.require_readable(data_, windows_.last() + reach_ + 1, type,
                           (DWORD_INPUTS - 1) * bytes_of(type));
        check_scales(r, scale_, zero_, windows_.maps);
    }

    Weights weights(int64_t group) const {
        const int64_t size = scale_groups_ * lanes();
        const int64_t code_bytes = bytes_ ? DWORDS * BLOCK_BYTES : BLOCK_BYTES;
        return {panels(),
                blocks_,
                scale_groups_,
                codes_ + group * panels() * blocks_ * code_bytes,
                offsets_,
                group_blocks_,
                scales_ + group * size,
                sums_ + group * size,
                low_,
                high_,
                outputs_};
    }

    template <class T>
    void run_rows(const Run& run) const {
        const int64_t columns = this->columns(), chunk = this->chunk();
        const double products =
            static_cast<double>(columns * blocks_) * DWORDS * DWORD_INPUTS * (pool_ ? 4 : 1);
        if (units() == 1) {  // the only rows of images lie in rows of their own
            run.parallel(run.images, products / PRODUCTS, 4,
                         [&](int64_t from, int64_t end, uint8_t* scratch) {
                             for (int64_t count; from < end; from += count) {
                                 count = std::min(end - from, chunk);
                                 const int64_t apart =
                                     out_.buffer < 0 ? columns : run.apart(out_.buffer) / 4;
                                 multiply<T>(run, from, 0, count, apart, scratch);
                             }
                         });
            return;
        }
        const int64_t pieces = range_count(), piece = RANGE_ROWS;
        run.parallel(
            run.images * pieces, products / PRODUCTS * static_cast<double>(piece), 1,
            [&](int64_t from, int64_t end, uint8_t* scratch) {
                while (from < end) {
                    const int64_t image = from / pieces, unit = from % pieces * piece;
                    const int64_t count = std::min({(end - from) * piece, chunk, units() - unit});
                    multiply<T>(run, image, unit, count, columns, scratch);
                    if (ranges_ >= 0)
                        write_ranges(run, ranges_, image, unit / piece, (count + piece - 1) / piece,
                                     run.at(out_, image) + unit * columns, count * columns);
                    from += (count + piece - 1) / piece;
                }
            });
    }

    template <class T>
    void multiply(const Run& run, int64_t image, int64_t unit, int64_t count, int64_t stride,
                  uint8_t* scratch) const {
        Row<T> rows[MOST_ROWS];
        const bool images = units() == 1;
        fill_rows(run, image, unit, count, images, rows);
        const int64_t row_count = pool_ ? count * POOLED_ROWS : count;
        float* out = out_.buffer < 0 ? reinterpret_cast<float*>(scratch + decoded())
                                     : run.at(out_, image) + unit * columns();
        for (int64_t group = 0; group < windows_.groups; ++group) {
            if (group > 0)
                for (int64_t i = 0; i < row_count; ++i) {
                    rows[i].data += windows_.group;
                    rows[i].bias += lanes();
                }
            float* to = out + group * outputs_;
            if constexpr (std::is_same_v<T, float>)
                run.program.kernels->matmul_exact(weights(group), rows, row_count, to, stride);
            else if (bytes_)
                run.program.kernels->matmul_bytes(weights(group), rows, row_count, pool_, to,
                                                  stride);
            else
                run.program.kernels->matmul(weights(group), rows, row_count, pool_,
                                            reinterpret_cast<Decoded*>(scratch), to, stride);
        }
        if (!images) return finish(run, image, unit, count, out, stride);
        for (int64_t i = 0; i < count; ++i) finish(run, image + i, 0, 1, out + i * stride, stride);
    }

    // What follows the products of some rows, which lie at `x`.
    void finish(const Run& run, int64_t image, int64_t first, int64_t rows, float* x,
                int64_t stride) const {
        apply_to_rows(run, posts_, image, out_, first, rows, x, stride);
        if (requantize_.present()) requantize_.write(run, image, first, rows, x, stride);
    }

    // Rows of `count` results from `unit` on; of as many images where each has but one.
    template <class T>
    void fill_rows(const Run& run, int64_t image, int64_t unit, int64_t count, bool images,
                   Row<T>* rows) const {
        const int64_t line = unit / width_;
        int64_t map = line / height_, y = line % height_, x = unit % width_;
        const T* data = run.at<T>(data_, image);
        const float* scales = scale_ < 0 ? nullptr : run.at<float>(scale_, image);
        const int32_t* zeros = zero_ < 0 ? nullptr : run.at<int32_t>(zero_, image);
        const int64_t bias_size = windows_.groups * lanes();
        for (int64_t i = 0; i < count; ++i) {
            for (int k = 0; k < (pool_ ? POOLED_ROWS : 1); ++k) {
                const int64_t row = y * step_y_ + k / 2, column = x * step_x_ + k % 2;
                *rows++ = {data + windows_.base + map * windows_.map_size + row * windows_.line +
                               column * windows_.pixel,
                           scales ? scales[map] : 1.0F, zeros ? std::clamp(zeros[map], 0, 255) : 0,
                           bias_ + (row_class_[row] + column_class_[column]) * bias_size};
            }
            if (images) {
                if (i + 1 == count) break;
                ++image;
                data = run.at<T>(data_, image);
                if (scales) scales = run.at<float>(scale_, image);
                if (zeros) zeros = run.at<int32_t>(zero_, image);
            } else if (++x == width_) {
                x = 0;
                if (++y == height_) {
                    y = 0;
                    ++map;
                }
            }
        }
    }

    int64_t data_, scale_, zero_, ranges_;
    bool exact_, bytes_, pool_ = false;
    float low_, high_;
    Windows windows_;
    int64_t outputs_, blocks_ = 0, scale_groups_ = 0, reach_ = 0;
    const uint8_t* codes_;
    const int32_t *offsets_, *group_blocks_, *sums_, *row_class_, *column_class_;
    const float *scales_, *bias_;
    int64_t step_y_ = 1, step_x_ = 1, height_, width_;
    std::vector<Post> posts_;
    Requantize requantize_;
    View out_;
};

}  // namespace

std::unique_ptr<Step> make_Product(Reader& r) { return std::make_unique<Product>(r); }

}  // namespace tritbench
