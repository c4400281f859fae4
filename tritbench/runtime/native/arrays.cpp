#include "arrays.h"

#include <cstdlib>
#include <new>

namespace tritbench {

// DLPack's structures, version 1.
struct DlDevice {
    int32_t type;  // 1 is the CPU
    int32_t id;
};
struct DlType {
    uint8_t code;  // 1 is unsigned, 2 floating point
    uint8_t bits;
    uint16_t lanes;
};
struct DlTensor {
    void* data;
    DlDevice device;
    int32_t dimensions;
    DlType type;
    int64_t* shape;
    int64_t* strides;  // in elements; null where contiguous
    uint64_t byte_offset;
};
struct DlManagedTensor {
    uint32_t major, minor;
    void* manager;
    void (*deleter)(DlManagedTensor*);
    uint64_t flags;
    DlTensor tensor;
};
struct ExchangeApi {
    uint32_t major, minor;
    const ExchangeApi* previous;
    int (*allocate)(DlTensor* prototype, DlManagedTensor** out, void* context,
                    void (*set_error)(void* context, const char* kind, const char* message));
    int (*managed_from_object)(void* object, DlManagedTensor** out);
    int (*to_object)(DlManagedTensor* tensor, void** out);
    int (*from_object)(void* object, DlTensor* out);
    int (*work_stream)(int32_t device_type, int32_t device_id, void** out);
};

namespace {

constexpr int32_t CPU = 1;
constexpr size_t ALIGNMENT = 64;  // PyTorch's own
constexpr uint8_t SIGNED = 0, UNSIGNED = 1, FLOAT = 2;

// The exchange API of a type, or null. Python's lock guards the memory of the type asked last.
const ExchangeApi* exchange_api(PyObject* type) {
    static PyObject* known_type = nullptr;
    static const ExchangeApi* known_api = nullptr;
    if (type == known_type) return known_api;
    PyObject* capsule = PyObject_GetAttrString(type, "__dlpack_c_exchange_api__");
    const ExchangeApi* api = nullptr;
    if (capsule) {
        api = static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
        Py_DECREF(capsule);
        if (api && (api->major != 1 || !api->from_object)) api = nullptr;
    }
    PyErr_Clear();
    Py_INCREF(type);
    Py_XDECREF(known_type);
    known_type = type;
    known_api = api;
    return api;
}

// Whether a float tensor has PyTorch's lazy negation, as imaginary parts may, of which DLPack knows
// nothing; -1 with an exception set.
int negated(PyObject* tensor) {
    static PyObject* name = PyUnicode_InternFromString("is_neg");
    PyObject* found = PyObject_CallMethodObjArgs(tensor, name, nullptr);
    if (!found && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();  // another library's tensor
        return 0;
    }
    const int truth = found ? PyObject_IsTrue(found) : -1;
    Py_XDECREF(found);
    return truth;
}

bool contiguous(int dimensions, const int64_t* shape, const int64_t* strides) {
    int64_t expected = 1;
    for (int i = dimensions - 1; i >= 0; --i) {
        if (shape[i] != 1 && strides[i] != expected) return false;
        expected *= shape[i];
    }
    return true;
}

// Sets a TypeError; `format` has %V in the place of the type's name.
bool type_error(PyObject* object, const char* format) {
    PyObject* name = PyType_GetName(Py_TYPE(object));
    if (!name) return false;
    PyErr_Format(PyExc_TypeError, format, name, "");
    Py_DECREF(name);
    return false;
}

// A float32 tensor whose memory follows its description. The exchange API's own allocator takes
// twice as long.
DlManagedTensor* new_tensor(const Shape& shape) {
    struct Tensor {
        DlManagedTensor managed;
        int64_t shape[MOST_RANK], strides[MOST_RANK];
    };
    constexpr size_t HEAD = (sizeof(Tensor) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    const size_t bytes = static_cast<size_t>(shape.count()) * sizeof(float);
    auto* memory = static_cast<char*>(
        std::aligned_alloc(ALIGNMENT, HEAD + (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT));
    if (!memory) return nullptr;
    auto* tensor = new (memory) Tensor{};
    const auto rank = static_cast<int32_t>(shape.rank);
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; --i) {
        tensor->shape[i] = shape.sizes[i];
        tensor->strides[i] = stride;
        stride *= shape.sizes[i];
    }
    tensor->managed = {
        1,
        0,
        nullptr,
        [](DlManagedTensor* self) { std::free(self); },
        0,
        {memory + HEAD, {CPU, 0}, rank, {FLOAT, 32, 1}, tensor->shape, tensor->strides, 0}};
    return &tensor->managed;
}

}  // namespace

bool Images::borrow(PyObject* object) {
    if (const ExchangeApi* api = exchange_api(reinterpret_cast<PyObject*>(Py_TYPE(object))))
        return borrow_tensor(object, api);
    return borrow_buffer(object);
}

bool Images::borrow_tensor(PyObject* object, const ExchangeApi* api) {
    DlTensor tensor;
    if (api->from_object(object, &tensor) != 0) {
        PyErr_Clear();  // PyTorch's own message is a page
        return type_error(object,
                          "images are a %V without memory to lend (sparse, or on another device), "
                          "expected a dense one on the CPU");
    }
    const bool is_pixel = tensor.type.code == UNSIGNED && tensor.type.bits == 8;
    const bool is_float = tensor.type.code == FLOAT && tensor.type.bits == 32;
    const bool is_index = tensor.type.code == SIGNED && tensor.type.bits == 64;
    if (tensor.device.type != CPU || tensor.type.lanes != 1 ||
        !(is_pixel || is_float || is_index)) {
        PyErr_Format(PyExc_TypeError,
                     "images are a tensor of DLPack type (%d, %d bits) on device %d, expected "
                     "uint8 or float32 in the CPU's memory",
                     tensor.type.code, tensor.type.bits, tensor.device.type);
        return false;
    }
    type = is_pixel ? Type::uint8 : is_float ? Type::float32 : Type::int64;
    if (const int negative = is_float ? negated(object) : 0) {
        if (negative > 0)
            PyErr_SetString(PyExc_ValueError,
                            "images have PyTorch's negative bit set: pass images.resolve_neg()");
        return false;
    }
    api_ = api;
    data = static_cast<const char*>(tensor.data) + tensor.byte_offset;
    dimensions = tensor.dimensions;
    shape = tensor.shape;
    if (tensor.strides && !contiguous(dimensions, shape, tensor.strides)) {
        PyErr_SetString(PyExc_ValueError,
                        "images are not contiguous in memory: pass images.contiguous()");
        return false;
    }
    return true;
}

bool Images::borrow_buffer(PyObject* object) {
    if (!PyObject_CheckBuffer(object))
        return type_error(object,
                          "images are %V, expected a NumPy array or PyTorch tensor of uint8 or "
                          "float32 in the CPU's memory");
    if (PyObject_GetBuffer(object, &buffer_, PyBUF_FORMAT | PyBUF_STRIDES) != 0) return false;
    const std::string format = buffer_.format ? buffer_.format : "B";
    const bool is_index = (format == "l" || format == "q") && buffer_.itemsize == 8;
    if (format != "B" && format != "f" && !is_index) {
        PyErr_Format(PyExc_TypeError,
                     "images are an array of format '%s', expected uint8 ('B') or float32 ('f')",
                     format.c_str());
        return false;
    }
    type = format == "B" ? Type::uint8 : is_index ? Type::int64 : Type::float32;
    if (!PyBuffer_IsContiguous(&buffer_, 'C')) {
        PyErr_SetString(
            PyExc_ValueError,
            "images are not contiguous in memory: pass numpy.ascontiguousarray(images)");
        return false;
    }
    static_assert(sizeof(Py_ssize_t) == sizeof(int64_t));
    data = buffer_.buf;
    dimensions = buffer_.ndim;
    shape = reinterpret_cast<const int64_t*>(buffer_.shape);
    return true;
}

PyObject* Images::make_output(const Shape& sizes, float** out) const {
    if (api_) {
        DlManagedTensor* managed = new_tensor(sizes);
        if (!managed) return PyErr_NoMemory();
        *out = static_cast<float*>(managed->tensor.data);
        void* object = nullptr;
        // It owns `managed` from here on, whether it succeeds or not.
        return api_->to_object(managed, &object) == 0 ? static_cast<PyObject*>(object) : nullptr;
    }
    static PyObject* empty = nullptr;
    if (!empty) {
        PyObject* numpy = PyImport_ImportModule("numpy");
        if (!numpy) return nullptr;
        empty = PyObject_GetAttrString(numpy, "empty");
        Py_DECREF(numpy);
        if (!empty) return nullptr;
    }
    PyObject* tuple = PyTuple_New(static_cast<Py_ssize_t>(sizes.rank));
    for (int i = 0; tuple && i < sizes.rank; ++i) {
        PyObject* size = PyLong_FromLongLong(sizes.sizes[i]);
        if (!size || PyTuple_SetItem(tuple, i, size) != 0) Py_CLEAR(tuple);
    }
    static PyObject* type_name = PyUnicode_InternFromString("f4");
    PyObject* array =
        tuple ? PyObject_CallFunctionObjArgs(empty, tuple, type_name, nullptr) : nullptr;
    Py_XDECREF(tuple);
    Py_buffer buffer;
    if (!array || PyObject_GetBuffer(array, &buffer, PyBUF_WRITABLE) != 0) {
        Py_XDECREF(array);
        return nullptr;
    }
    *out = static_cast<float*>(buffer.buf);
    PyBuffer_Release(&buffer);
    return array;
}

std::string Images::describe() const {
    constexpr const char* names[] = {"uint8", "float32", "int64"};
    std::string text = std::string(names[static_cast<int>(type)]) + " [";
    for (int i = 0; i < dimensions; ++i) {
        if (i > 0) text += ", ";
        text += std::to_string(shape[i]);
    }
    return text + "]";
}

}  // namespace tritbench
