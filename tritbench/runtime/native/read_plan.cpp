#include "read_plan.h"

#include <cstring>
#include <stdexcept>

namespace tritbench {
namespace {

class Reference {
  public:
    explicit Reference(PyObject* object) : object_(object) {
        if (!object) throw PythonError();
    }
    Reference(const Reference&) = delete;
    Reference& operator=(const Reference&) = delete;
    ~Reference() { Py_DECREF(object_); }
    PyObject* get() const { return object_; }

  private:
    PyObject* object_;
};

// Reads the attributes of plan.py's dataclasses.
class Plan {
  public:
    explicit Plan(PyObject* object) : object_(object) {}

    int64_t integer(const char* name) const {
        const Reference value(PyObject_GetAttrString(object_, name));
        const long long number = PyLong_AsLongLong(value.get());
        if (number == -1 && PyErr_Occurred()) throw PythonError();
        constexpr long long MOST = int64_t{1} << 31;
        if (number < -MOST || number > MOST)
            throw std::invalid_argument(std::string(name) + " is " + std::to_string(number));
        return number;
    }
    float number(const char* name) const {
        const Reference value(PyObject_GetAttrString(object_, name));
        const double number = PyFloat_AsDouble(value.get());
        if (number == -1 && PyErr_Occurred()) throw PythonError();
        return static_cast<float>(number);
    }
    template <class T>
    std::vector<T> array(const char* name, size_t alignment = 1, size_t room = 0) const {
        const Reference value(PyObject_GetAttrString(object_, name));
        Py_buffer buffer;
        if (PyObject_GetBuffer(value.get(), &buffer, PyBUF_C_CONTIGUOUS) != 0) throw PythonError();
        const auto bytes = static_cast<size_t>(buffer.len);
        std::vector<T> values(bytes / sizeof(T) + room);
        if (bytes > 0) std::memcpy(aligned(values.data(), alignment), buffer.buf, bytes);
        PyBuffer_Release(&buffer);
        return values;
    }
    template <class T>
    static T* aligned(T* at, size_t alignment) {
        return at + (alignment - reinterpret_cast<uintptr_t>(at) % alignment) % alignment;
    }
    template <class F>
    void each(const char* name, const F& use) const {
        const Reference items(PyObject_GetAttrString(object_, name));
        const Py_ssize_t count = PySequence_Size(items.get());
        if (count < 0) throw PythonError();
        for (Py_ssize_t i = 0; i < count; ++i) {
            const Reference item(PySequence_GetItem(items.get(), i));
            use(Plan(item.get()));
        }
    }

  private:
    PyObject* object_;
};

std::vector<Op> read_ops(const Plan& plan, const char* name) {
    std::vector<Op> ops;
    plan.each(name, [&](const Plan& op) {
        const int64_t kind = op.integer("kind");
        if (kind < 0 || kind > 3) throw std::invalid_argument("an operation of unknown kind");
        ops.push_back({static_cast<OpKind>(kind),
                       {op.integer("window_height"), op.integer("window_width"),
                        op.integer("step_y"), op.integer("step_x")},
                       op.array<float>("scale"),
                       op.array<float>("bias")});
    });
    return ops;
}

Stage read_stage(const Plan& plan) {
    Stage stage = {};
    stage.channels = plan.integer("channels");
    stage.height = plan.integer("height");
    stage.width = plan.integer("width");
    stage.pad_y = plan.integer("pad_y");
    stage.pad_x = plan.integer("pad_x");
    stage.planar = plan.integer("planar") != 0;
    stage.outputs = plan.integer("outputs");
    stage.out_height = plan.integer("out_height");
    stage.out_width = plan.integer("out_width");
    stage.step_y = plan.integer("step_y");
    stage.step_x = plan.integer("step_x");
    stage.relu = plan.integer("relu") != 0;
    stage.code_bytes = plan.array<uint8_t>("codes", BLOCK_BYTES, BLOCK_BYTES);
    stage.codes = Plan::aligned(stage.code_bytes.data(), BLOCK_BYTES);
    stage.offsets = plan.array<int32_t>("offsets");
    stage.group_blocks = plan.array<int32_t>("group_blocks");
    stage.sums = plan.array<int32_t>("sums");
    stage.values = {plan.array<float>("scales"), plan.array<float>("bias")};
    stage.pixels = {plan.array<float>("pixel_scales"), plan.array<float>("pixel_bias")};
    stage.row_class = plan.array<int32_t>("row_class");
    stage.column_class = plan.array<int32_t>("column_class");
    stage.ops = read_ops(plan, "ops");
    return stage;
}

}  // namespace

std::unique_ptr<Network> read_network(PyObject* object, const char* isa, int threads, bool exact) {
    const Plan plan(object);
    auto network = std::make_unique<Network>();
    network->channels = plan.integer("channels");
    network->height = plan.integer("height");
    network->width = plan.integer("width");
    network->mean = plan.number("mean");
    network->std = plan.number("std");
    network->input_ops = read_ops(plan, "input_ops");
    plan.each("stages", [&](const Plan& s) { network->stages.push_back(read_stage(s)); });
    network->order = plan.array<int32_t>("order");
    network->ordered = true;
    for (size_t i = 0; i < network->order.size(); ++i)
        network->ordered = network->ordered && network->order[i] == static_cast<int32_t>(i);
    network->exact = exact;
    network->threads = threads;
    network->kernels = find_kernels(isa);
    if (!network->kernels)
        throw std::invalid_argument(std::string("no kernels for the instruction set '") + isa +
                                    "' in this build or on this machine");
    validate(*network);
    return network;
}

}  // namespace tritbench
