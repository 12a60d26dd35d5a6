#include "common/base/size_text.h"

#include "common/base/base.h"

SizeText size_text(double bytes) {
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB"};
    int unit = 0;
    for (; unit + 1 < COUNT_OF(units) && bytes >= 999.5; unit++)
        bytes /= 1000; /* 999.5 would be rounded to 1000 */
    int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
    SizeText size;
    snprintf(size.text, sizeof size.text, "%.*f %s", decimals, bytes, units[unit]);
    return size;
}
