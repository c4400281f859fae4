#include "kernels.h"

#include "isas.h"

namespace tritbench {

const Kernels* find_kernels(const std::string& name) {
    if (name == "avx512vnni") return avx512vnni_kernels();
    if (name == "avxvnni") return avxvnni_kernels();
    if (name == "avx2") return avx2_kernels();
    if (name == "neon") return neon_kernels();
    if (name == "generic") return generic_kernels();
    return nullptr;
}

}  // namespace tritbench
