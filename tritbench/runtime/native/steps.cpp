#include "steps.h"

namespace tritbench {

const std::vector<const char*>& step_kinds() {
#define TRITBENCH_NAME(NAME) #NAME,
    static const std::vector<const char*> names = {TRITBENCH_STEPS(TRITBENCH_NAME)};
#undef TRITBENCH_NAME
    return names;
}

std::unique_ptr<Step> make_step(int64_t kind, Reader& reader) {
    using Make = std::unique_ptr<Step> (*)(Reader&);
#define TRITBENCH_MAKE(NAME) make_##NAME,
    static const Make table[] = {TRITBENCH_STEPS(TRITBENCH_MAKE)};
#undef TRITBENCH_MAKE
    return table[kind](reader);
}

}  // namespace tritbench
