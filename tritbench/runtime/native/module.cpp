// The Python module: a Network made from a plan, called with images.

#include <cstddef>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>

#include "arrays.h"
#include "limits.h"
#include "network.h"

namespace tritbench {
namespace {

constexpr int64_t SHORT_WORK = 1 << 16;  // products for which the GIL is not worth releasing

// A Python exception is set.
struct PythonError : std::exception {};

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
        const Reference list(PyObject_GetAttrString(object_, name));
        const Reference items(PySequence_Fast(list.get(), "expected a sequence"));
        for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.get()); ++i)
            use(Plan(PySequence_Fast_GET_ITEM(items.get(), i)));
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
    network->exact = exact;
    network->threads = threads;
    network->kernels = find_kernels(isa);
    if (!network->kernels)
        throw std::invalid_argument(std::string("no kernels for the instruction set '") + isa +
                                    "' in this build or on this machine");
    validate(*network);
    return network;
}

// Runs `body`, turning C++ exceptions into Python's; `failure` is what to return then.
template <class F, class R>
R guarded(R failure, const F& body) {
    try {
        return body();
    } catch (const PythonError&) {
    } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return failure;
}

struct NetworkObject {
    PyObject_HEAD vectorcallfunc vectorcall;
    const Network* network;
};

// How many images an array holds: [n, ...] with an image's pixels in each, or one image.
int64_t count_images(const Network& network, const Images& images) {
    int64_t size = 1, rest = 1;
    for (int i = 0; i < images.dimensions; ++i) {
        size *= images.shape[i];
        if (i > 0) rest *= images.shape[i];
    }
    if (images.dimensions >= 2 && rest == network.image_size()) return images.shape[0];
    if (images.dimensions >= 1 && size == network.image_size()) return 1;
    throw std::invalid_argument(
        "images are " + images.describe() + ", expected [n, " + std::to_string(network.channels) +
        ", " + std::to_string(network.height) + ", " + std::to_string(network.width) + "] or [n, " +
        std::to_string(network.image_size()) + "]");
}

void run_images(const Network& network, const Images& images, int64_t count, float* logits) {
    if (images.is_float)
        run(network, static_cast<const float*>(images.data), count, logits);
    else
        run(network, static_cast<const uint8_t*>(images.data), count, logits);
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargs, PyObject* keywords) {
    if (PyVectorcall_NARGS(nargs) != 1 || (keywords && PyTuple_GET_SIZE(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "expected one argument: the images");
        return nullptr;
    }
    return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
        const Network* network = reinterpret_cast<NetworkObject*>(self)->network;
        if (!network) throw std::invalid_argument("the network was not initialized");
        Images images;
        if (!images.borrow(args[0])) return nullptr;
        const int64_t count = count_images(*network, images);
        float* logits = nullptr;
        PyObject* output =
            images.make_output(count, static_cast<int64_t>(network->order.size()), &logits);
        if (!output) return nullptr;
        try {
            if (count * network->products() < SHORT_WORK) {
                run_images(*network, images, count, logits);
            } else {
                std::exception_ptr error;
                Py_BEGIN_ALLOW_THREADS;
                try {
                    run_images(*network, images, count, logits);
                } catch (...) {
                    error = std::current_exception();
                }
                Py_END_ALLOW_THREADS;
                if (error) std::rethrow_exception(error);
            }
        } catch (...) {
            Py_DECREF(output);
            throw;
        }
        return output;
    });
}

int initialize(PyObject* self, PyObject* args, PyObject* keywords) {
    const char* names[] = {"plan", "isa", "threads", "exact", nullptr};
    PyObject* plan = nullptr;
    const char* isa = nullptr;
    int threads = 1, exact = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Osip", const_cast<char**>(names), &plan, &isa,
                                     &threads, &exact))
        return -1;
    return guarded(-1, [&] {
        auto* object = reinterpret_cast<NetworkObject*>(self);
        if (object->network) throw std::invalid_argument("the network is initialized already");
        object->network = read_network(plan, isa, threads, exact != 0).release();
        return 0;
    });
}

PyObject* create(PyTypeObject* type, PyObject*, PyObject*) {
    PyObject* self = type->tp_alloc(type, 0);
    if (self) reinterpret_cast<NetworkObject*>(self)->vectorcall = call;
    return self;
}

void destroy(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    delete reinterpret_cast<NetworkObject*>(self)->network;
    type->tp_free(self);
    Py_DECREF(type);
}

PyObject* available_isas(PyObject*, PyObject*) {
    PyObject* names = PyList_New(0);
    for (const char* name : ISAS) {
        if (!names || !find_kernels(name)) continue;
        PyObject* text = PyUnicode_FromString(name);
        if (!text || PyList_Append(names, text) != 0) Py_CLEAR(names);
        Py_XDECREF(text);
    }
    return names;
}

PyObject* machine_limits(PyObject*, PyObject* args) {
    const char* isa = nullptr;
    long long bytes = 0;
    if (!PyArg_ParseTuple(args, "sL", &isa, &bytes)) return nullptr;
    return guarded(static_cast<PyObject*>(nullptr), [&] {
        const Kernels* kernels = find_kernels(isa);
        if (!kernels || bytes < 1024)
            throw std::invalid_argument("no such kernels, or under 1 KiB");
        const Limits limits = measure_limits(*kernels, bytes);
        return Py_BuildValue("dd", limits.bytes, limits.products);
    });
}

PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(NetworkObject, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr}};

PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(create)},
                       {Py_tp_init, reinterpret_cast<void*>(initialize)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                       {Py_tp_call, reinterpret_cast<void*>(PyVectorcall_Call)},
                       {Py_tp_members, members},
                       {0, nullptr}};

PyType_Spec spec = {"tritbench.runtime._engine.Network", sizeof(NetworkObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_VECTORCALL, slots};

PyMethodDef functions[] = {
    {"available_isas", available_isas, METH_NOARGS,
     "Instruction sets that this build and machine have kernels for, best first."},
    {"machine_limits", machine_limits, METH_VARARGS,
     "(isa, bytes): bytes a second when so many are read again and again, and products a second of "
     "a layer that the first-level cache holds."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_engine",
                          "Ternary networks on the CPU; see docs/engine.md.",
                          -1,
                          functions,
                          nullptr,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace
}  // namespace tritbench

PyMODINIT_FUNC PyInit__engine() {
    PyObject* module = PyModule_Create(&tritbench::definition);
    if (!module) return nullptr;
    PyObject* type = PyType_FromSpec(&tritbench::spec);
    if (!type || PyModule_AddObject(module, "Network", type) != 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return nullptr;
    }
    return module;
}
