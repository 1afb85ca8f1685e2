/* ARMv8-A with NEON, which all of them have. */
#if defined(__aarch64__)
#include "lanes_neon.h"
#include "table.h"

TABLE(neon)
#endif
