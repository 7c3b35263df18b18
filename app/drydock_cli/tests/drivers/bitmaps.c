/* Bitmaps (K-200). */
#define FAMILY "bitmaps"
#include "check.h"

static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONG words[4];
    RTL_BITMAP map;
    ULONG start = 0;

    (void)RegistryPath;
    RtlInitializeBitMap(&map, words, 100);
    RtlClearAllBits(&map);
    CHECK_NUMBER(0, RtlNumberOfSetBits(&map));
    CHECK_NUMBER(100, RtlNumberOfClearBits(&map));
    RtlSetBits(&map, 30, 10);
    CHECK(RtlAreBitsSet(&map, 30, 10) && !RtlAreBitsSet(&map, 29, 2) && RtlAreBitsClear(&map, 0, 30));
    CHECK(RtlTestBit(&map, 39) && !RtlTestBit(&map, 40));
    CHECK_NUMBER(0xC0000000, words[0]);
    CHECK_NUMBER(0xFF, words[1]);
    CHECK_NUMBER(30, RtlFindSetBits(&map, 10, 0));
    CHECK_NUMBER(0xFFFFFFFF, RtlFindSetBits(&map, 11, 0));
    CHECK_NUMBER(40, RtlFindClearBits(&map, 31, 0));
    CHECK_NUMBER(40, RtlFindClearBits(&map, 1, 35));
    CHECK_NUMBER(0, RtlFindClearBitsAndSet(&map, 30, 0));
    CHECK_NUMBER(40, RtlNumberOfSetBits(&map));
    CHECK_NUMBER(60, RtlFindFirstRunClear(&map, &start));
    CHECK_NUMBER(40, start);
    CHECK_NUMBER(60, RtlFindNextForwardRunClear(&map, 0, &start));
    CHECK_NUMBER(40, start);
    RtlClearBits(&map, 10, 5);
    CHECK_NUMBER(5, RtlFindFirstRunClear(&map, &start));
    CHECK_NUMBER(60, RtlFindLongestRunClear(&map, &start));
    CHECK_NUMBER(40, start);
    RtlSetAllBits(&map);
    CHECK_NUMBER(100, RtlNumberOfSetBits(&map));
    CHECK_NUMBER(0xFFFFFFFF, RtlFindClearBits(&map, 1, 0));
    CHECK_NUMBER(20, RtlFindSetBitsAndClear(&map, 3, 20));
    CHECK(RtlAreBitsClear(&map, 20, 3) && !RtlTestBit(&map, 22) && RtlTestBit(&map, 23));
}
