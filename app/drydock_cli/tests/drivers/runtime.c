/* The C run-time that the kernel exports: characters, memory, numbers, strings, bounded forms, sorting, formats (K-201, K-205). */
#define FAMILY "runtime"
#include "check.h"

IMPORT(int, isalnum, int);
IMPORT(int, isalpha, int);
IMPORT(int, iscntrl, int);
IMPORT(int, isdigit, int);
IMPORT(int, islower, int);
IMPORT(int, isprint, int);
IMPORT(int, ispunct, int);
IMPORT(int, isspace, int);
IMPORT(int, isupper, int);
IMPORT(int, isxdigit, int);
IMPORT(int, iswalnum, WCHAR);
IMPORT(int, iswalpha, WCHAR);
IMPORT(int, iswdigit, WCHAR);
IMPORT(int, iswspace, WCHAR);
IMPORT(int, iswxdigit, WCHAR);
IMPORT(int, tolower, int);
IMPORT(int, toupper, int);
IMPORT(WCHAR, towlower, WCHAR);
IMPORT(WCHAR, towupper, WCHAR);
IMPORT(SIZE_T, RtlCompareMemoryUlong, PVOID, SIZE_T, ULONG);
IMPORT(void, RtlCopyMemory, PVOID, const void *, SIZE_T);
IMPORT(void, RtlCopyMemoryNonTemporal, PVOID, const void *, SIZE_T);
IMPORT(void, RtlFillMemory, PVOID, SIZE_T, UCHAR);
IMPORT(void, RtlMoveMemory, PVOID, const void *, SIZE_T);
IMPORT(void, RtlPrefetchMemoryNonTemporal, PVOID, SIZE_T);
IMPORT(void, RtlZeroMemory, PVOID, SIZE_T);
IMPORT(void *, memchr, const void *, int, SIZE_T);
IMPORT(LONGLONG, _atoi64, const char *);
IMPORT(char *, _i64toa, LONGLONG, char *, int);
IMPORT(WCHAR *, _i64tow, LONGLONG, WCHAR *, int);
IMPORT(char *, _itoa, int, char *, int);
IMPORT(WCHAR *, _itow, int, WCHAR *, int);
IMPORT(char *, _ui64toa, ULONGLONG, char *, int);
IMPORT(char *, _ultoa, ULONG, char *, int);
IMPORT(int, _wtoi, const WCHAR *);
IMPORT(LONGLONG, _wtoi64, const WCHAR *);
IMPORT(LONG, _wtol, const WCHAR *);
IMPORT(int, abs, int);
IMPORT(int, atoi, const char *);
IMPORT(LONG, atol, const char *);
IMPORT(LONG, labs, LONG);
IMPORT(int, rand, void);
IMPORT(void, srand, unsigned);
IMPORT(LONG, strtol, const char *, char **, int);
IMPORT(ULONG, strtoul, const char *, char **, int);
IMPORT(LONG, wcstol, const WCHAR *, WCHAR **, int);
IMPORT(ULONG, wcstoul, const WCHAR *, WCHAR **, int);
IMPORT(int, memcpy_s, void *, SIZE_T, const void *, SIZE_T);
IMPORT(int, memmove_s, void *, SIZE_T, const void *, SIZE_T);
IMPORT(int, strcat_s, char *, SIZE_T, const char *);
IMPORT(int, strcpy_s, char *, SIZE_T, const char *);
IMPORT(int, strncat_s, char *, SIZE_T, const char *, SIZE_T);
IMPORT(int, strncpy_s, char *, SIZE_T, const char *, SIZE_T);
IMPORT(char *, strtok_s, char *, const char *, char **);
IMPORT(int, wcscat_s, WCHAR *, SIZE_T, const WCHAR *);
IMPORT(SIZE_T, mbstowcs, WCHAR *, const char *, SIZE_T);
IMPORT(SIZE_T, wcstombs, char *, const WCHAR *, SIZE_T);
IMPORT(int, wcscpy_s, WCHAR *, SIZE_T, const WCHAR *);
IMPORT(int, wcsncat_s, WCHAR *, SIZE_T, const WCHAR *, SIZE_T);
IMPORT(int, wcsncpy_s, WCHAR *, SIZE_T, const WCHAR *, SIZE_T);
IMPORT(void *, bsearch, const void *, const void *, SIZE_T, SIZE_T, int(NTAPI *)(const void *, const void *));
IMPORT(void, qsort, void *, SIZE_T, SIZE_T, int(NTAPI *)(const void *, const void *));
IMPORT(void, __chkstk, void);
IMPORT(int, _stricmp, const char *, const char *);
IMPORT(int, _strnicmp, const char *, const char *, SIZE_T);
IMPORT(char *, _strlwr, char *);
IMPORT(char *, _strupr, char *);
IMPORT(char *, _strrev, char *);
IMPORT(char *, _strset, char *, int);
IMPORT(char *, _strnset, char *, int, SIZE_T);
IMPORT(int, _wcsicmp, const WCHAR *, const WCHAR *);
IMPORT(int, _wcsnicmp, const WCHAR *, const WCHAR *, SIZE_T);
IMPORT(WCHAR *, _wcslwr, WCHAR *);
IMPORT(WCHAR *, _wcsupr, WCHAR *);
IMPORT(WCHAR *, _wcsrev, WCHAR *);
IMPORT(WCHAR *, _wcsnset, WCHAR *, WCHAR, SIZE_T);
IMPORT(char *, strcat, char *, const char *);
IMPORT(char *, strchr, const char *, int);
IMPORT(char *, strcpy, char *, const char *);
IMPORT(char *, strncat, char *, const char *, SIZE_T);
IMPORT(int, strncmp, const char *, const char *, SIZE_T);
IMPORT(char *, strncpy, char *, const char *, SIZE_T);
IMPORT(SIZE_T, strnlen, const char *, SIZE_T);
IMPORT(char *, strrchr, const char *, int);
IMPORT(SIZE_T, strspn, const char *, const char *);
IMPORT(char *, strstr, const char *, const char *);
IMPORT(WCHAR *, wcscat, WCHAR *, const WCHAR *);
IMPORT(WCHAR *, wcschr, const WCHAR *, WCHAR);
IMPORT(int, wcscmp, const WCHAR *, const WCHAR *);
IMPORT(WCHAR *, wcscpy, WCHAR *, const WCHAR *);
IMPORT(SIZE_T, wcslen, const WCHAR *);
IMPORT(WCHAR *, wcsncat, WCHAR *, const WCHAR *, SIZE_T);
IMPORT(int, wcsncmp, const WCHAR *, const WCHAR *, SIZE_T);
IMPORT(WCHAR *, wcsncpy, WCHAR *, const WCHAR *, SIZE_T);
IMPORT(SIZE_T, wcsnlen, const WCHAR *, SIZE_T);
IMPORT(WCHAR *, wcsrchr, const WCHAR *, WCHAR);
IMPORT(SIZE_T, wcsspn, const WCHAR *, const WCHAR *);
IMPORT(WCHAR *, wcsstr, const WCHAR *, const WCHAR *);
IMPORT(int, _snprintf_s, char *, SIZE_T, SIZE_T, const char *, ...);
IMPORT(int, _snwprintf_s, WCHAR *, SIZE_T, SIZE_T, const WCHAR *, ...);
IMPORT(int, _swprintf, WCHAR *, const WCHAR *, ...);
IMPORT(int, swprintf, WCHAR *, const WCHAR *, ...);
IMPORT(int, sprintf_s, char *, SIZE_T, const char *, ...);
IMPORT(int, swprintf_s, WCHAR *, SIZE_T, const WCHAR *, ...);
IMPORT(int, _vsnprintf, char *, SIZE_T, const char *, va_list);
IMPORT(int, _vsnprintf_s, char *, SIZE_T, SIZE_T, const char *, va_list);
IMPORT(int, vsprintf, char *, const char *, va_list);
IMPORT(int, vsprintf_s, char *, SIZE_T, const char *, va_list);
IMPORT(int, _vsnwprintf, WCHAR *, SIZE_T, const WCHAR *, va_list);
IMPORT(int, _vsnwprintf_s, WCHAR *, SIZE_T, SIZE_T, const WCHAR *, va_list);
IMPORT(int, _vswprintf, WCHAR *, const WCHAR *, va_list);
IMPORT(int, vswprintf, WCHAR *, const WCHAR *, va_list);
IMPORT(int, vswprintf_s, WCHAR *, SIZE_T, const WCHAR *, va_list);

#define EINVAL_ 22
#define ERANGE_ 34
#define STRUNCATE_ 80
#define ALL ((SIZE_T)-1)

static BOOLEAN Same(const WCHAR *One, const WCHAR *Two)
{
    while (*One != 0 && *One == *Two)
        One++, Two++;
    return *One == *Two;
}

/* Claims that each byte is of a class exactly if the text names it. */
static void Class(int(NTAPI *Is)(int), const char *Members, int Line)
{
    int letter;

    for (letter = 0; letter < 128; letter++) {
        const char *member = Members;

        while (*member != 0 && *member != letter)
            member++;
        if (!Claim((Is(letter) != 0) == (letter != 0 && *member == letter), Line, "class"))
            DbgPrint(FAMILY ":   letter %d\n", letter);
    }
}

#define DIGITS "0123456789"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define PUNCTUATION "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

static void Characters(void)
{
    int letter;

    Class(CALL(isdigit), DIGITS, __LINE__);
    Class(CALL(islower), LOWER, __LINE__);
    Class(CALL(isupper), UPPER, __LINE__);
    Class(CALL(isalpha), LOWER UPPER, __LINE__);
    Class(CALL(isalnum), LOWER UPPER DIGITS, __LINE__);
    Class(CALL(isxdigit), DIGITS "abcdefABCDEF", __LINE__);
    Class(CALL(isspace), " \t\n\v\f\r", __LINE__);
    Class(CALL(ispunct), PUNCTUATION, __LINE__);
    Class(CALL(isprint), LOWER UPPER DIGITS PUNCTUATION " ", __LINE__);
    for (letter = 0; letter < 128; letter++)
        CHECK((CALL(iscntrl)(letter) != 0) == (letter < 32 || letter == 127));
    CHECK(CALL(iswalpha)(L'x') && !CALL(iswalpha)(L'7') && CALL(iswalnum)(L'7') && !CALL(iswalnum)(L'-'));
    CHECK(CALL(iswdigit)(L'7') && !CALL(iswdigit)(L'x') && CALL(iswxdigit)(L'f') && !CALL(iswxdigit)(L'g'));
    CHECK(CALL(iswspace)(L'\t') && !CALL(iswspace)(L'x'));
    CHECK(CALL(tolower)('A') == 'a' && CALL(tolower)('-') == '-' && CALL(toupper)('z') == 'Z' && CALL(toupper)('1') == '1');
    CHECK(CALL(towlower)(L'A') == L'a' && CALL(towupper)(L'z') == L'Z' && CALL(towupper)(L'1') == L'1');
}

static void Memory(void)
{
    static const ULONG Pattern[] = {7, 7, 7, 8};
    char room[17] = "0123456789abcdef";

    CHECK_NUMBER(12, CALL(RtlCompareMemoryUlong)((PVOID)Pattern, 16, 7));
    CHECK_NUMBER(0, CALL(RtlCompareMemoryUlong)((PVOID)Pattern, 16, 8));
    CALL(RtlMoveMemory)(room + 2, room, 8);
    CHECK_TEXT("0101234567abcdef", room);
    CALL(RtlCopyMemory)(room, "XY", 2);
    CALL(RtlCopyMemoryNonTemporal)(room + 14, "ZW", 2);
    CHECK_TEXT("XY01234567abcdZW", room);
    CALL(RtlFillMemory)(room, 3, 'f');
    CHECK_TEXT("fff1234567abcdZW", room);
    CALL(RtlPrefetchMemoryNonTemporal)(room, sizeof(room));
    CHECK(CALL(memchr)(room, '7', 16) == room + 9 && CALL(memchr)(room, '7', 9) == NULL);
    CALL(RtlZeroMemory)(room + 4, 12);
    CHECK_TEXT("fff1", room);
}

static void Numbers(void)
{
    char room[70], *end;
    WCHAR wide[70], *wideEnd;
    int first, second;

    CHECK(CALL(atoi)(" -42x") == -42 && CALL(atol)("+17") == 17 && CALL(atoi)("x") == 0);
    CHECK(CALL(_atoi64)("-9007199254740993") == -9007199254740993LL);
    CHECK(CALL(_wtoi)(L" -42x") == -42 && CALL(_wtol)(L"17") == 17 && CALL(_wtoi64)(L"9007199254740993") == 9007199254740993LL);
    CHECK(CALL(abs)(-5) == 5 && CALL(labs)(-6) == 6 && CALL(abs)(5) == 5);
    CHECK(CALL(strtol)("0x1fz", &end, 0) == 31 && *end == 'z');
    CHECK(CALL(strtol)("-2147483649", NULL, 10) == (LONG)0x80000000 && CALL(strtol)("99999999999", NULL, 10) == 0x7FFFFFFF);
    CHECK(CALL(strtoul)("777", &end, 8) == 511 && *end == 0);
    CHECK(CALL(strtoul)("zz!", &end, 36) == 35 * 36 + 35 && *end == '!');
    CHECK(CALL(wcstol)(L"-12 ", &wideEnd, 10) == -12 && *wideEnd == L' ');
    CHECK(CALL(wcstoul)(L"4294967295", &wideEnd, 10) == 4294967295u && *wideEnd == 0);
    CHECK_TEXT("-123", CALL(_itoa)(-123, room, 10));
    CHECK_TEXT("ffffff85", CALL(_itoa)(-123, room, 16));
    CHECK_TEXT("4294967173", CALL(_ultoa)((ULONG)-123, room, 10));
    CHECK_TEXT("-9223372036854775808", CALL(_i64toa)((LONGLONG)1 << 63, room, 10));
    CHECK_TEXT("1000000000000000", CALL(_ui64toa)(1ULL << 60, room, 16));
    CHECK(Same(CALL(_itow)(255, wide, 2), L"11111111") && Same(CALL(_i64tow)(-5, wide, 10), L"-5"));
    CALL(srand)(1);
    first = CALL(rand)();
    second = CALL(rand)();
    CHECK(first >= 0 && first <= 32767 && second >= 0 && second <= 32767);
    CALL(srand)(1);
    CHECK(CALL(rand)() == first && CALL(rand)() == second);
}

static void Bounded(void)
{
    char room[8] = "", text[] = ",a;b,", *context = NULL;
    WCHAR wide[8] = L"";

    CHECK_NUMBER(0, CALL(strcpy_s)(room, 8, "abc"));
    CHECK_NUMBER(0, CALL(strcat_s)(room, 8, "defg"));
    CHECK_TEXT("abcdefg", room);
    CHECK_NUMBER(ERANGE_, CALL(strcat_s)(room, 8, "h"));
    CHECK_TEXT("", room);
    CHECK_NUMBER(ERANGE_, CALL(strcpy_s)(room, 4, "abcd"));
    CHECK_NUMBER(EINVAL_, CALL(strcpy_s)(room, 4, NULL));
    CHECK_NUMBER(0, CALL(strncpy_s)(room, 8, "abcdef", 3));
    CHECK_NUMBER(0, CALL(strncat_s)(room, 8, "xyz", 2));
    CHECK_TEXT("abcxy", room);
    CHECK_NUMBER(STRUNCATE_, CALL(strncpy_s)(room, 4, "abcdef", ALL));
    CHECK_TEXT("abc", room);
    CHECK_NUMBER(0, CALL(wcscpy_s)(wide, 8, L"abc"));
    CHECK_NUMBER(0, CALL(wcscat_s)(wide, 8, L"de"));
    CHECK_NUMBER(0, CALL(wcsncat_s)(wide, 8, L"fgh", 1));
    CHECK(Same(wide, L"abcdef"));
    CHECK_NUMBER(ERANGE_, CALL(wcscpy_s)(wide, 3, L"abc"));
    CHECK_NUMBER(0, CALL(wcsncpy_s)(wide, 8, L"abc", 2));
    CHECK(Same(wide, L"ab"));
    CHECK_NUMBER(0, CALL(memcpy_s)(room, 8, "1234567", 8));
    CHECK_NUMBER(0, CALL(memmove_s)(room + 1, 7, room, 6));
    CHECK_TEXT("1123456", room);
    CHECK_NUMBER(ERANGE_, CALL(memcpy_s)(room, 4, "12345", 5));
    CHECK(room[0] == 0 && room[3] == 0 && room[4] == '4');
    CHECK_TEXT("a", CALL(strtok_s)(text, ",;", &context));
    CHECK_TEXT("b", CALL(strtok_s)(NULL, ",;", &context));
    CHECK(CALL(strtok_s)(NULL, ",;", &context) == NULL);
}

static int NTAPI Compare(const void *One, const void *Two)
{
    return *(const int *)One - *(const int *)Two;
}

static void Sorting(void)
{
    int numbers[64], key = 6, none = 7, *found;
    ULONG i;

    for (i = 0; i < 64; i++)
        numbers[i] = (int)(i * 37 % 64) * 2;
    CALL(qsort)(numbers, 64, sizeof(int), Compare);
    for (i = 0; i < 64; i++)
        CHECK_NUMBER(2 * i, numbers[i]);
    found = CALL(bsearch)(&key, numbers, 64, sizeof(int), Compare);
    CHECK(found == &numbers[3]);
    CHECK(CALL(bsearch)(&none, numbers, 64, sizeof(int), Compare) == NULL);
}

static void Strings(void)
{
    char room[32];
    WCHAR wide[32];
    const char *text = "alpha beta alpha";
    const WCHAR *wideText = L"alpha beta alpha";

    CHECK(CALL(_stricmp)("ALPHA", "alpha") == 0 && CALL(_stricmp)("ALPHA", "alphb") < 0);
    CHECK(CALL(_strnicmp)("ALPHA", "alphb", 4) == 0 && CALL(_strnicmp)("ALPHB", "alpha", 5) > 0);
    CHECK(CALL(strncmp)("abc", "abd", 2) == 0 && CALL(strncmp)("abc", "abd", 3) < 0);
    CHECK(CALL(strnlen)("abc", 2) == 2 && CALL(strnlen)("abc", 9) == 3);
    CHECK(CALL(strchr)(text, 'b') == text + 6 && CALL(strchr)(text, 'z') == NULL && CALL(strchr)(text, 0) == text + 16);
    CHECK(CALL(strrchr)(text, 'b') == text + 6 && CALL(strrchr)(text, 'a') == text + 15);
    CHECK(CALL(strspn)(text, "ahlp") == 5 && CALL(strstr)(text, "beta") == text + 6 && CALL(strstr)(text, "gamma") == NULL);
    CHECK_TEXT("abc", CALL(strcpy)(room, "abc"));
    CHECK_TEXT("abcdef", CALL(strcat)(room, "def"));
    CHECK_TEXT("abcdefgh", CALL(strncat)(room, "ghi", 2));
    CHECK(CALL(strncpy)(room, "xy", 4) == room && room[0] == 'x' && room[2] == 0 && room[3] == 0 && room[4] == 'e');
    CALL(strcpy)(room, "MiXed");
    CHECK_TEXT("mixed", CALL(_strlwr)(room));
    CHECK_TEXT("MIXED", CALL(_strupr)(room));
    CHECK_TEXT("DEXIM", CALL(_strrev)(room));
    CHECK_TEXT("--XIM", CALL(_strnset)(room, '-', 2));
    CHECK_TEXT("+++++", CALL(_strset)(room, '+'));

    CHECK(CALL(_wcsicmp)(L"ALPHA", L"alpha") == 0 && CALL(_wcsnicmp)(L"ALPHA", L"alphb", 4) == 0);
    CHECK(CALL(wcscmp)(L"a", L"b") < 0 && CALL(wcscmp)(L"b", L"b") == 0 && CALL(wcsncmp)(L"abc", L"abd", 2) == 0);
    CHECK(CALL(wcslen)(wideText) == 16 && CALL(wcsnlen)(wideText, 4) == 4);
    CHECK(CALL(wcschr)(wideText, L'b') == wideText + 6 && CALL(wcsrchr)(wideText, L'a') == wideText + 15);
    CHECK(CALL(wcsspn)(wideText, L"ahlp") == 5 && CALL(wcsstr)(wideText, L"beta") == wideText + 6);
    CHECK(CALL(wcsstr)(wideText, L"gamma") == NULL && CALL(wcschr)(wideText, L'z') == NULL);
    CHECK(Same(CALL(wcscpy)(wide, L"abc"), L"abc") && Same(CALL(wcscat)(wide, L"def"), L"abcdef"));
    CHECK(Same(CALL(wcsncat)(wide, L"ghi", 2), L"abcdefgh"));
    CHECK(CALL(wcsncpy)(wide, L"xy", 4) == wide && wide[2] == 0 && wide[3] == 0 && wide[4] == L'e');
    CALL(wcscpy)(wide, L"MiXed");
    CHECK(Same(CALL(_wcslwr)(wide), L"mixed") && Same(CALL(_wcsupr)(wide), L"MIXED"));
    CHECK(Same(CALL(_wcsrev)(wide), L"DEXIM") && Same(CALL(_wcsnset)(wide, L'-', 2), L"--XIM"));
}

/* Each of the forms that take a list of arguments. */
static int Form(ULONG Which, PVOID Room, ...)
{
    va_list arguments;
    int count = -77;

    va_start(arguments, Room);
    switch (Which) {
    case 0: count = CALL(vsprintf)(Room, "%d-%s", arguments); break;
    case 1: count = CALL(_vsnprintf)(Room, 8, "%d-%s", arguments); break;
    case 2: count = CALL(_vsnprintf_s)(Room, 8, 7, "%d-%s", arguments); break;
    case 3: count = CALL(vsprintf_s)(Room, 8, "%d-%s", arguments); break;
    case 4: count = CALL(vswprintf)(Room, L"%d-%S", arguments); break;
    case 5: count = CALL(_vswprintf)(Room, L"%d-%S", arguments); break;
    case 6: count = CALL(_vsnwprintf)(Room, 8, L"%d-%S", arguments); break;
    case 7: count = CALL(_vsnwprintf_s)(Room, 8, 7, L"%d-%S", arguments); break;
    case 8: count = CALL(vswprintf_s)(Room, 8, L"%d-%S", arguments); break;
    }
    va_end(arguments);
    return count;
}

static void Formats(void)
{
    union {
        char Narrow[16];
        WCHAR Wide[16];
    } room;
    ULONG i;

    for (i = 0; i < 4; i++) {
        CHECK_NUMBER(5, Form(i, &room, 42, "ab"));
        CHECK_TEXT("42-ab", room.Narrow);
    }
    for (; i < 9; i++) {
        CHECK_NUMBER(5, Form(i, &room, 42, "ab"));
        CHECK(Same(room.Wide, L"42-ab"));
    }
    CHECK_NUMBER(-1, Form(1, &room, 42, "abcdefg"));
    CHECK_NUMBER(8, CALL(_snprintf_s)(room.Narrow, 16, ALL, "%08x", 0xABCDEF));
    CHECK_TEXT("00abcdef", room.Narrow);
    CHECK_NUMBER(-1, CALL(_snprintf_s)(room.Narrow, 4, ALL, "%d", 123456));
    CHECK_TEXT("123", room.Narrow);
    CHECK_NUMBER(3, CALL(sprintf_s)(room.Narrow, 4, "%c%c%c", 'x', 'y', 'z'));
    CHECK_TEXT("xyz", room.Narrow);
    CHECK_NUMBER(3, CALL(swprintf)(room.Wide, L"%ws", L"abc"));
    CHECK(Same(room.Wide, L"abc"));
    CHECK_NUMBER(3, CALL(_swprintf)(room.Wide, L"%s", L"def"));
    CHECK(Same(room.Wide, L"def"));
    CHECK_NUMBER(4, CALL(swprintf_s)(room.Wide, 16, L"%-4d", 7));
    CHECK(Same(room.Wide, L"7   "));
    CHECK_NUMBER(4, CALL(_snwprintf_s)(room.Wide, 16, 4, L"%I64d", -123LL));
    CHECK(Same(room.Wide, L"-123"));
}

/* The probe takes the bytes in RAX, touches the pages, and leaves every argument register as it is. */
static void StackProbe(void)
{
    ULONG64 bytes = 8192, kept = 77;

    __asm__ volatile("mov %1, %%rcx\n\tcall *%2\n\txchg %%rcx, %1"
                     : "+a"(bytes), "+r"(kept)
                     : "m"(CALL(__chkstk))
                     : "rcx", "r10", "r11", "memory");
    CHECK(bytes == 8192 && kept == 77);
}

static void Conversions(void)
{
    WCHAR wide[8] = L"xxxxxxx";
    char narrow[8] = "xxxxxxx";

    CHECK_NUMBER(3, CALL(mbstowcs)(wide, "a\xE4z", RTL_NUMBER_OF(wide)));
    CHECK(wide[0] == 'a' && wide[1] == 0xE4 && wide[2] == 'z' && wide[3] == 0 && wide[4] == 'x');
    CHECK_NUMBER(2, CALL(mbstowcs)(wide, "uvw", 2));
    CHECK(wide[1] == 'v' && wide[2] == 'z');
    CHECK_NUMBER(5, CALL(mbstowcs)(NULL, "count", 0));
    CHECK_NUMBER(3, CALL(wcstombs)(narrow, L"a\xE4z", sizeof(narrow)));
    CHECK_TEXT("a\xE4z", narrow);
    CHECK_NUMBER('x', narrow[4]);
    CHECK_NUMBER(1, CALL(wcstombs)(narrow, L"uvw", 1));
    CHECK_TEXT("u\xE4z", narrow);
    CHECK_NUMBER(2, CALL(wcstombs)(NULL, L"?!", 0));
    /* No byte stands for it. */
    CHECK_NUMBER(-1, CALL(wcstombs)(narrow, L"a\x4E2D", sizeof(narrow)));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Characters();
    Memory();
    Numbers();
    Bounded();
    Conversions();
    Sorting();
    Strings();
    Formats();
    StackProbe();
}
