/* Formats of the C run-time, and what a buffer that is too small gets (K-205). */
#define FAMILY "printing"
#include "check.h"

int __cdecl sprintf(char *, const char *, ...);
int __cdecl _snprintf(char *, size_t, const char *, ...);
int __cdecl _snwprintf(wchar_t *, size_t, const wchar_t *, ...);

static char Buffer[256];

#define PRINTS(expected, ...)                                                                                          \
    do {                                                                                                               \
        int length = sprintf(Buffer, __VA_ARGS__);                                                                     \
        CHECK_NUMBER(sizeof(expected) - 1, length);                                                                    \
        CHECK_TEXT(expected, Buffer);                                                                                  \
    } while (0)

static void Checks(PUNICODE_STRING RegistryPath)
{
    UNICODE_STRING wide = RTL_CONSTANT_STRING(L"counted");
    ANSI_STRING narrow = RTL_CONSTANT_STRING("narrow");
    WCHAR wideBuffer[16];

    (void)RegistryPath;
    PRINTS("-1 4294967295 17 ff FF", "%d %u %o %x %X", -1, -1, 15, 255, 255);
    PRINTS("   42|42   |00042|+42| 42", "%5d|%-5d|%05d|%+d|% d", 42, 42, 42, 42, 42);
    PRINTS("0xff 0XFF 010", "%#x %#X %#o", 255, 255, 8);
    PRINTS("-5000000000 12a05f200", "%I64d %I64x", -5000000000LL, 5000000000LL);
    PRINTS("5000000000 5000000000", "%lld %llu", 5000000000LL, 5000000000ULL);
    PRINTS("-1 65535 -1 255", "%hd %hu %hhd %hhu", 0xFFFF, 0xFFFF, 0xFF, 0xFF);
    PRINTS("00000000DEADBEEF", "%p", (PVOID)0xDEADBEEF);
    PRINTS("text   text|te|   te", "%s %6s|%.2s|%5.2s", "text", "text", "text", "text");
    PRINTS("wide wide w c", "%S %ls %C %c", L"wide", L"wide", L'w', 'c');
    PRINTS("counted narrow", "%wZ %Z", &wide, &narrow);
    PRINTS("  7 00007", "%*d %.*d", 3, 7, 5, 7);
    PRINTS("100%", "%d%%", 100);
    PRINTS("(null)", "%s", NULL);
    PRINTS("000123 [   123] []", "%.6d [%6.3d] [%.0d]", 123, 123, 0);

    RtlFillMemory(Buffer, 8, '#');
    CHECK_NUMBER(3, _snprintf(Buffer, 4, "%s", "abc"));
    CHECK_TEXT("abc", Buffer);
    CHECK_NUMBER(4, _snprintf(Buffer, 4, "%s", "abcd"));
    CHECK_NUMBER('#', Buffer[4]);
    CHECK_NUMBER(-1, _snprintf(Buffer, 4, "%s", "abcde"));
    CHECK_NUMBER('#', Buffer[4]);
    CHECK_NUMBER(9, _snwprintf(wideBuffer, 16, L"%s %S", L"wide", "text"));
    CHECK(memcmp(wideBuffer, L"wide text", 20) == 0);
}
