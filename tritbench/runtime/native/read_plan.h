// A network from the dataclasses of plan.py.

#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <exception>
#include <memory>

#include "network.h"

namespace tritbench {

// A Python exception is set.
struct PythonError : std::exception {};

// Throws PythonError, or std::invalid_argument where the plan is wrong or `isa` is not there.
std::unique_ptr<Network> read_network(PyObject* plan, const char* isa, int threads, bool exact);

}  // namespace tritbench
