// The Python module: a Network made from a Program, called with images.

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <stdexcept>

#include "arrays.h"
#include "limits.h"
#include "pool.h"
#include "program.h"

#ifndef TRITBENCH_SOURCES
#error "setup.py defines TRITBENCH_SOURCES, a hash of what this is built from"
#endif
#if defined(__clang__)
#define TRITBENCH_COMPILER "Clang " __clang_version__
#else
#define TRITBENCH_COMPILER "GCC " __VERSION__
#endif

// Vectorcall joined the stable ABI in Python 3.12. Python 3.11, whose ABI is final, has the same,
// but its headers do not show it to a module of the stable ABI: so its parts are declared here.
extern "C" PyAPI_FUNC(PyObject*) PyVectorcall_Call(PyObject*, PyObject*, PyObject*);

namespace tritbench {
namespace {

constexpr int64_t SHORT_WORK = 1 << 16;  // products for which the GIL is not worth releasing

// Runs `body`, turning C++ exceptions into Python's; `failure` is what to return then.
template <class F, class R>
R guarded(R failure, const F& body) {
    try {
        return body();
    } catch (const std::invalid_argument& error) {
        PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return failure;
}

using Vectorcall = PyObject* (*)(PyObject*, PyObject* const*, size_t, PyObject*);
constexpr unsigned HAVE_VECTORCALL = 1U << 11;
constexpr size_t VECTORCALL_SPARE = size_t{1} << (8 * sizeof(size_t) - 1);

struct NetworkObject {
    PyObject_HEAD Vectorcall vectorcall;
    const Program* program;
    Py_buffer data;  // that the program lies in
    int threads;
};

// Memory of one thread, aligned and kept from call to call; it only grows.
class Room {
  public:
    Room() = default;
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;
    ~Room() { std::free(memory_); }
    uint8_t* get(int64_t bytes) {
        if (bytes > size_) {
            std::free(memory_);
            size_ = 0;
            memory_ =
                static_cast<uint8_t*>(std::aligned_alloc(BLOCK_BYTES, as_size(aligned(bytes))));
            if (!memory_) throw std::bad_alloc();
            size_ = bytes;
        }
        return memory_;
    }

  private:
    uint8_t* memory_ = nullptr;
    int64_t size_ = 0;
};

std::string expected_shapes(const Program& program) {
    std::string text = "[";
    for (int i = 0; i < program.input.rank; ++i) {
        const int64_t size = program.input.sizes[i];
        text += (i > 0 ? ", " : "") + (size == -1 ? "n"
                                       : size < 0 ? std::to_string(-size) + " n"
                                                  : std::to_string(size));
    }
    text += "]";
    if (program.input.rank != 2) text += " or [n, " + std::to_string(program.input.count()) + "]";
    return text;
}

// How many images an array holds: [n, ...] with an image's elements in each, or one image.
int64_t count_images(const Program& program, const Images& images) {
    int64_t size = 1, rest = 1;
    for (int i = 0; i < images.dimensions; ++i) {
        size *= images.shape[i];
        if (i > 0) rest *= images.shape[i];
    }
    const int64_t count = program.input.count(), first = program.input.sizes[0];
    const int64_t together = first < 0 ? -first : 1;  // in an image's share of the batch
    if (images.dimensions >= 2 && rest * together == count && images.shape[0] % together == 0)
        return images.shape[0] / together;
    if (images.dimensions >= 1 && size == count) return 1;
    throw std::invalid_argument("images are " + images.describe() + ", expected " +
                                expected_shapes(program));
}

void run_images(const NetworkObject& object, const Images& images, int64_t count, float* logits) {
    thread_local Room room;
    const Program& program = *object.program;
    if (object.threads > 1) start_threads(object.threads);
    run(program, images.data, images.type, count, logits,
        room.get(program.room(count, object.threads)), object.threads);
}

PyObject* call(PyObject* self, PyObject* const* args, size_t nargs, PyObject* keywords) {
    if ((nargs & ~VECTORCALL_SPARE) != 1 || (keywords && PyTuple_Size(keywords) > 0)) {
        PyErr_SetString(PyExc_TypeError, "expected one argument: the images");
        return nullptr;
    }
    return guarded(static_cast<PyObject*>(nullptr), [&]() -> PyObject* {
        const NetworkObject& object = *reinterpret_cast<NetworkObject*>(self);
        if (!object.program) throw std::invalid_argument("the network was not initialized");
        Images images;
        if (!images.borrow(args[0])) return nullptr;
        if (!object.program->takes(images.type)) {
            PyErr_Format(PyExc_TypeError, "images are %s, expected %s", images.describe().c_str(),
                         object.program->takes(Type::int64)   ? "int64"
                         : object.program->takes(Type::uint8) ? "uint8 or float32"
                                                              : "float32");
            return nullptr;
        }
        const int64_t count = count_images(*object.program, images);
        Shape shape = object.program->output;
        for (int i = 0; i < shape.rank; ++i)
            if (shape.sizes[i] < 0) shape.sizes[i] *= -count;
        float* logits = nullptr;
        PyObject* output = images.make_output(shape, &logits);
        if (!output) return nullptr;
        try {
            if (count * object.program->products < SHORT_WORK) {
                run_images(object, images, count, logits);
            } else {
                std::exception_ptr error;
                Py_BEGIN_ALLOW_THREADS;
                try {
                    run_images(object, images, count, logits);
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
    const char* names[] = {"program", "isa", "threads", nullptr};
    PyObject* program = nullptr;
    const char* isa = nullptr;
    int threads = 1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Osi", const_cast<char**>(names), &program,
                                     &isa, &threads))
        return -1;
    return guarded(-1, [&] {
        auto* object = reinterpret_cast<NetworkObject*>(self);
        if (object->program) throw std::invalid_argument("the network is initialized already");
        if (threads < 1) throw std::invalid_argument("fewer than one thread");
        if (PyObject_GetBuffer(program, &object->data, PyBUF_SIMPLE) != 0) return -1;
        object->threads = threads;
        try {
            object->program = load(static_cast<const uint8_t*>(object->data.buf),
                                   static_cast<int64_t>(object->data.len), isa)
                                  .release();
        } catch (...) {
            PyBuffer_Release(&object->data);
            throw;
        }
        return 0;
    });
}

PyObject* create(PyTypeObject* type, PyObject*, PyObject*) {
    PyObject* self = PyType_GenericAlloc(type, 0);
    if (self) reinterpret_cast<NetworkObject*>(self)->vectorcall = call;
    return self;
}

void destroy(PyObject* self) {
    PyTypeObject* type = Py_TYPE(self);
    auto* object = reinterpret_cast<NetworkObject*>(self);
    delete object->program;
    PyBuffer_Release(&object->data);
    reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
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

PyObject* step_kind_names(PyObject*, PyObject*) {
    PyObject* names = PyList_New(0);
    for (const char* name : step_kinds()) {
        PyObject* text = names ? PyUnicode_FromString(name) : nullptr;
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

// For tests, which call the kernels through ctypes.
PyObject* float_kernels(PyObject*, PyObject* isa) {
    const char* name = PyUnicode_AsUTF8AndSize(isa, nullptr);
    if (!name) return nullptr;
    const Kernels* kernels = find_kernels(name);
    if (!kernels) return PyErr_Format(PyExc_ValueError, "no kernels %s", name);
    return PyLong_FromVoidPtr(const_cast<FloatKernels*>(&kernels->floats));
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
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | HAVE_VECTORCALL, slots};

PyMethodDef functions[] = {
    {"float_kernels", float_kernels, METH_O,
     "(isa): the address of its FloatKernels (native/float_kernels.h)."},
    {"available_isas", available_isas, METH_NOARGS,
     "Instruction sets that this build and machine have kernels for, best first."},
    {"step_kinds", step_kind_names, METH_NOARGS, "Names of steps, in the order of their numbers."},
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
    if (PyModule_AddStringConstant(module, "sources", TRITBENCH_SOURCES) != 0 ||
        PyModule_AddStringConstant(module, "compiler", TRITBENCH_COMPILER) != 0) {
        Py_DECREF(module);
        return nullptr;
    }
    return module;
}
