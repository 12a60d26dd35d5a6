#include "common/data/byte_alphabet.h"

/* Not printable: 0 .. 32 (33 bytes), 127 .. 160 (34 bytes), 173 (the soft hyphen). */
static int code_of_byte(int byte) {
    if (byte <= 32) return 256 + byte;
    if (byte >= 127 && byte <= 160) return 256 + 33 + (byte - 127);
    return byte == 173 ? 256 + 33 + 34 : byte;
}

static int byte_of_code(int code) {
    if (code >= 256 + 33 + 34) return code == 256 + 33 + 34 ? 173 : -1;
    if (code >= 256 + 33) return 127 + (code - 256 - 33);
    if (code >= 256) return code - 256;
    return code_of_byte(code) == code ? code : -1;
}

void byte_alphabet_write(const char *bytes, size_t count, Str *out) {
    for (size_t i = 0; i < count; i++) {
        int code = code_of_byte((unsigned char)bytes[i]);
        char utf8[2] = {(char)code, 0};
        if (code >= 0x80) {
            utf8[0] = (char)(0xC0 | code >> 6);
            utf8[1] = (char)(0x80 | (code & 0x3F));
        }
        str_add(out, utf8, code >= 0x80 ? 2 : 1);
    }
}

bool byte_alphabet_read(const char *text, size_t count, Str *out) {
    for (size_t i = 0; i < count; i++) {
        int code = (unsigned char)text[i];
        if (code >= 0x80) { /* every character of the alphabet is below U+0800: two bytes of UTF-8 */
            if ((code & 0xE0) != 0xC0 || i + 1 == count) return false;
            code = (code & 0x1F) << 6 | ((unsigned char)text[++i] & 0x3F);
        }
        int byte = byte_of_code(code);
        if (byte < 0) return false;
        str_add(out, &(char){(char)byte}, 1);
    }
    return true;
}

int byte_alphabet_order(int byte) {
    int code = code_of_byte(byte);
    if (code >= 256) return code - 256 + 94 + 12 + 82;
    if (code >= 174) return code - 174 + 94 + 12;
    return code >= 161 ? code - 161 + 94 : code - 33;
}
