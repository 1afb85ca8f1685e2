/* Portable C: the twin that defines right. */
#include "lanes_plain.h"
#include "table.h"

TABLE(plain)
