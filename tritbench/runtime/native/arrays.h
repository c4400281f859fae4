// NumPy arrays and PyTorch tensors without their headers: the buffer protocol, and DLPack's C
// exchange API (https://dmlc.github.io/dlpack/latest/python_spec.html), whose structures are
// declared here as far as they are used.

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <cstdint>
#include <string>

namespace tritbench {

struct ExchangeApi;

// Images lent by an array; valid while this lives, and the array with it.
class Images {
  public:
    Images() = default;
    Images(const Images&) = delete;
    Images& operator=(const Images&) = delete;
    ~Images() { PyBuffer_Release(&buffer_); }

    // False with a Python exception set where `object` is no uint8 or float32 array in order.
    bool borrow(PyObject* object);

    // A new float32 array [rows, columns] of the same kind, or null with an exception set.
    PyObject* make_output(int64_t rows, int64_t columns, float** data) const;

    std::string describe() const;  // "uint8 [2, 28, 28]"

    const void* data = nullptr;
    bool is_float = false;
    int dimensions = 0;
    const int64_t* shape = nullptr;

  private:
    bool borrow_tensor(PyObject* object, const ExchangeApi* api);
    bool borrow_buffer(PyObject* object);

    Py_buffer buffer_ = {};
    const ExchangeApi* api_ = nullptr;
};

}  // namespace tritbench
