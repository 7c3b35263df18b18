/* Names and the expressions that they are in, as file systems and their filters ask. */
#define FAMILY "file_names"
#include "check.h"

IMPORT(BOOLEAN, FsRtlIsNameInExpression, PUNICODE_STRING, PUNICODE_STRING, BOOLEAN, PWCH);
IMPORT(BOOLEAN, FsRtlDoesNameContainWildCards, PUNICODE_STRING);
IMPORT(VOID, FsRtlDissectName, UNICODE_STRING, PUNICODE_STRING, PUNICODE_STRING);

static BOOLEAN Is(PCWSTR Expression, PCWSTR Name, BOOLEAN IgnoreCase)
{
    UNICODE_STRING expression, name;

    RtlInitUnicodeString(&expression, Expression);
    RtlInitUnicodeString(&name, Name);
    return CALL(FsRtlIsNameInExpression)(&expression, &name, IgnoreCase, NULL);
}

static void Expressions(void)
{
    static WCHAR swapped[65536];
    UNICODE_STRING expression = RTL_CONSTANT_STRING(L"BAB"), name = RTL_CONSTANT_STRING(L"aba");
    ULONG unit;

    CHECK(Is(L"*", L"any.thing", FALSE) && Is(L"*.TXT", L"a.txt", TRUE) && !Is(L"*.TXT", L"a.txt", FALSE));
    /* Only the name's letters become capitals. */
    CHECK(!Is(L"*.txt", L"a.txt", TRUE) && Is(L"*.txt", L"a.txt", FALSE));
    CHECK(Is(L"A?C", L"abc", TRUE) && !Is(L"A?C", L"ac", TRUE) && !Is(L"A?", L"a", TRUE));
    CHECK(Is(L"\xC4*", L"\xE4pfel", TRUE) && !Is(L"\xC4*", L"\xE4pfel", FALSE));
    /* DOS_STAR: up to the last dot. */
    CHECK(Is(L"<.TXT", L"a.b.txt", TRUE) && Is(L"<", L"abc", TRUE) && !Is(L"<", L"a.b", TRUE));
    /* DOS_QM: one character, or none in front of a dot and at the end. */
    CHECK(Is(L">>>>>.TXT", L"abc.txt", TRUE) && !Is(L">>.TXT", L"abc.txt", TRUE) && Is(L"A>>", L"a", TRUE));
    /* DOS_DOT: a dot, or nothing at the end. */
    CHECK(Is(L"ABC\"", L"abc", TRUE) && Is(L"ABC\"", L"abc.", TRUE) && !Is(L"A\"C", L"abc", TRUE));
    CHECK(Is(L"<\"<", L"abc", TRUE) && Is(L"<\"<", L"abc.txt", TRUE));
    CHECK(Is(L"", L"", TRUE) && !Is(L"*", L"", TRUE) && !Is(L"", L"a", TRUE));
    for (unit = 0; unit < RTL_NUMBER_OF(swapped); unit++)
        swapped[unit] = unit == 'a' ? 'B' : unit == 'b' ? 'A' : (WCHAR)unit;
    CHECK(CALL(FsRtlIsNameInExpression)(&expression, &name, TRUE, swapped));
    CHECK(!CALL(FsRtlIsNameInExpression)(&expression, &name, FALSE, swapped));
}

static void WildCards(void)
{
    static const struct {
        PCWSTR Name;
        BOOLEAN Expected;
    } names[] = {
        {L"\\folder\\a*", TRUE},  {L"a?", TRUE},      {L"a<b", TRUE},           {L">", TRUE}, {L"a\"", TRUE},
        {L"\\folder\\ab", FALSE}, {L"a.b;c", FALSE},  {L"\\fol*der\\ab", FALSE}, {L"", FALSE},
    };
    UNICODE_STRING name;
    ULONG index;

    for (index = 0; index < RTL_NUMBER_OF(names); index++) {
        RtlInitUnicodeString(&name, names[index].Name);
        CHECK_NUMBER(names[index].Expected, CALL(FsRtlDoesNameContainWildCards)(&name));
    }
}

static void Parts(PCWSTR Name, PCWSTR First, PCWSTR Rest)
{
    UNICODE_STRING name, first, rest, expected;

    RtlInitUnicodeString(&name, Name);
    CALL(FsRtlDissectName)(name, &first, &rest);
    RtlInitUnicodeString(&expected, First);
    CHECK(RtlEqualUnicodeString(&first, &expected, FALSE));
    CHECK(first.Length == 0 || (first.Buffer >= name.Buffer && first.Buffer < name.Buffer + name.Length / 2));
    RtlInitUnicodeString(&expected, Rest);
    CHECK(RtlEqualUnicodeString(&rest, &expected, FALSE));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Expressions();
    WildCards();
    Parts(L"\\one\\two\\three", L"one", L"two\\three");
    Parts(L"one\\two", L"one", L"two");
    Parts(L"\\one", L"one", L"");
    Parts(L"one\\", L"one", L"");
    Parts(L"\\", L"", L"");
    Parts(L"", L"", L"");
}
