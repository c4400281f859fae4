// NumPy arrays and PyTorch tensors without their headers: the buffer protocol, and DLPack's C
// exchange API (https://dmlc.github.io/dlpack/latest/python_spec.html), whose structures are
// declared here as far as they are used.

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <cstdint>
#include <string>

#include "program.h"

namespace tritbench {

struct ExchangeApi;

// Images lent by an array; valid while this lives, and the array with it.
class Images {
  public:
    Images() = default;
    Images(const Images&) = delete;
    Images& operator=(const Images&) = delete;
    ~Images() { PyBuffer_Release(&buffer_); }

    // False with a Python exception set where `object` is no array of a type in order.
    bool borrow(PyObject* object);

    // A new float32 array of the same kind, or null with an exception set.
    PyObject* make_output(const Shape& shape, float** data) const;

    std::string describe() const;  // "uint8 [2, 28, 28]"

    const void* data = nullptr;
    Type type = Type::uint8;
    int dimensions = 0;
    const int64_t* shape = nullptr;

  private:
    bool borrow_tensor(PyObject* object, const ExchangeApi* api);
    bool borrow_buffer(PyObject* object);

    Py_buffer buffer_ = {};
    const ExchangeApi* api_ = nullptr;
};

}  // namespace tritbench
