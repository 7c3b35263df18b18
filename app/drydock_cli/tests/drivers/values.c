/* Values: time, access masks, once, byte order, random numbers, bits, splay trees and the rest of the tables (K-200). */
#define FAMILY "values"
#include "check.h"

IMPORT(void, RtlTimeToTimeFields, PLARGE_INTEGER, PTIME_FIELDS);
IMPORT(BOOLEAN, RtlTimeFieldsToTime, PTIME_FIELDS, PLARGE_INTEGER);
IMPORT(BOOLEAN, RtlTimeToSecondsSince1970, PLARGE_INTEGER, PULONG);
IMPORT(BOOLEAN, RtlTimeToSecondsSince1980, PLARGE_INTEGER, PULONG);
IMPORT(void, RtlSecondsSince1970ToTime, ULONG, PLARGE_INTEGER);
IMPORT(void, RtlSecondsSince1980ToTime, ULONG, PLARGE_INTEGER);
IMPORT(void, ExSystemTimeToLocalTime, PLARGE_INTEGER, PLARGE_INTEGER);
IMPORT(void, ExLocalTimeToSystemTime, PLARGE_INTEGER, PLARGE_INTEGER);
IMPORT(NTSTATUS, RtlLocalTimeToSystemTime, PLARGE_INTEGER, PLARGE_INTEGER);
IMPORT(NTSTATUS, RtlSystemTimeToLocalTime, PLARGE_INTEGER, PLARGE_INTEGER);
IMPORT(ULONG, RtlRandom, PULONG);
IMPORT(ULONG, RtlRandomEx, PULONG);
IMPORT(ULONG, RtlUniform, PULONG);
IMPORT(USHORT, RtlUshortByteSwap, USHORT);
IMPORT(ULONG, RtlUlongByteSwap, ULONG);
IMPORT(ULONGLONG, RtlUlonglongByteSwap, ULONGLONG);
IMPORT(void, RtlMapGenericMask, PACCESS_MASK, PGENERIC_MAPPING);
IMPORT(BOOLEAN, RtlAreAllAccessesGranted, ACCESS_MASK, ACCESS_MASK);
IMPORT(BOOLEAN, RtlAreAnyAccessesGranted, ACCESS_MASK, ACCESS_MASK);
IMPORT(void, RtlRunOnceInitialize, PRTL_RUN_ONCE);
IMPORT(NTSTATUS, RtlRunOnceExecuteOnce, PRTL_RUN_ONCE, PVOID, PVOID, PVOID *);
IMPORT(NTSTATUS, RtlRunOnceBeginInitialize, PRTL_RUN_ONCE, ULONG, PVOID *);
IMPORT(NTSTATUS, RtlRunOnceComplete, PRTL_RUN_ONCE, ULONG, PVOID);
IMPORT(void, RtlSetBit, PRTL_BITMAP, ULONG);
IMPORT(void, RtlClearBit, PRTL_BITMAP, ULONG);
IMPORT(ULONG, RtlFindClearRuns, PRTL_BITMAP, PRTL_BITMAP_RUN, ULONG, BOOLEAN);
IMPORT(ULONG, RtlFindLastBackwardRunClear, PRTL_BITMAP, ULONG, PULONG);
IMPORT(CCHAR, RtlFindLeastSignificantBit, ULONGLONG);
IMPORT(CCHAR, RtlFindMostSignificantBit, ULONGLONG);
IMPORT(PVOID, RtlInsertElementGenericTableFull, PVOID, PVOID, ULONG, PBOOLEAN, PVOID, ULONG);
IMPORT(PVOID, RtlLookupElementGenericTableFull, PVOID, PVOID, PVOID *, PULONG);
IMPORT(PVOID, RtlEnumerateGenericTable, PVOID, BOOLEAN);
IMPORT(PVOID, RtlInsertElementGenericTableFullAvl, PVOID, PVOID, ULONG, PBOOLEAN, PVOID, ULONG);
IMPORT(PVOID, RtlLookupElementGenericTableFullAvl, PVOID, PVOID, PVOID *, PULONG);
IMPORT(PVOID, RtlEnumerateGenericTableAvl, PVOID, BOOLEAN);
IMPORT(PVOID, RtlLookupFirstMatchingElementGenericTableAvl, PVOID, PVOID, PVOID *);
IMPORT(PRTL_SPLAY_LINKS, RtlSplay, PRTL_SPLAY_LINKS);
IMPORT(PRTL_SPLAY_LINKS, RtlDelete, PRTL_SPLAY_LINKS);
IMPORT(void, RtlDeleteNoSplay, PRTL_SPLAY_LINKS, PRTL_SPLAY_LINKS *);
IMPORT(PRTL_SPLAY_LINKS, RtlRealSuccessor, PRTL_SPLAY_LINKS);
IMPORT(PRTL_SPLAY_LINKS, RtlRealPredecessor, PRTL_SPLAY_LINKS);
IMPORT(PRTL_SPLAY_LINKS, RtlSubtreeSuccessor, PRTL_SPLAY_LINKS);
IMPORT(PRTL_SPLAY_LINKS, RtlSubtreePredecessor, PRTL_SPLAY_LINKS);

static void Times(void)
{
    /* Thursday, 2024-02-29 12:34:56.789. */
    LARGE_INTEGER time, back, local;
    TIME_FIELDS fields = {2024, 2, 29, 12, 34, 56, 789, 0}, read;
    ULONG seconds = 0;

    CHECK(CALL(RtlTimeFieldsToTime)(&fields, &time));
    CALL(RtlTimeToTimeFields)(&time, &read);
    CHECK(read.Year == 2024 && read.Month == 2 && read.Day == 29 && read.Hour == 12 && read.Minute == 34);
    CHECK(read.Second == 56 && read.Milliseconds == 789 && read.Weekday == 4);
    CHECK(CALL(RtlTimeToSecondsSince1970)(&time, &seconds));
    CHECK_NUMBER(1709210096, seconds);
    CALL(RtlSecondsSince1970ToTime)(seconds, &back);
    CHECK_NUMBER(time.QuadPart - 7890000, back.QuadPart);
    CHECK(CALL(RtlTimeToSecondsSince1980)(&time, &seconds));
    CHECK_NUMBER(1709210096 - 315532800, seconds);
    CALL(RtlSecondsSince1980ToTime)(seconds, &back);
    CHECK_NUMBER(time.QuadPart - 7890000, back.QuadPart);
    back.QuadPart = 0;
    CHECK(!CALL(RtlTimeToSecondsSince1970)(&back, &seconds) && !CALL(RtlTimeToSecondsSince1980)(&back, &seconds));
    fields.Day = 30;
    CHECK(!CALL(RtlTimeFieldsToTime)(&fields, &back));
    CALL(ExSystemTimeToLocalTime)(&time, &local);
    CALL(ExLocalTimeToSystemTime)(&local, &back);
    CHECK_NUMBER(time.QuadPart, back.QuadPart);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlSystemTimeToLocalTime)(&time, &back));
    CHECK_NUMBER(local.QuadPart, back.QuadPart);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlLocalTimeToSystemTime)(&local, &back));
    CHECK_NUMBER(time.QuadPart, back.QuadPart);
}

static void Small(void)
{
    static const GENERIC_MAPPING Mapping = {1, 2, 4, 7};
    ACCESS_MASK mask = GENERIC_READ | GENERIC_EXECUTE | DELETE;
    ULONG one = 1, two = 1, first;

    CHECK_NUMBER(0x3412, CALL(RtlUshortByteSwap)(0x1234));
    CHECK_NUMBER(0x78563412, CALL(RtlUlongByteSwap)(0x12345678));
    CHECK_NUMBER(0x0807060504030201, CALL(RtlUlonglongByteSwap)(0x0102030405060708));
    CALL(RtlMapGenericMask)(&mask, (PGENERIC_MAPPING)&Mapping);
    CHECK_NUMBER(DELETE | 5, mask);
    CHECK(CALL(RtlAreAllAccessesGranted)(7, 5) && !CALL(RtlAreAllAccessesGranted)(5, 7));
    CHECK(CALL(RtlAreAnyAccessesGranted)(5, 6) && !CALL(RtlAreAnyAccessesGranted)(5, 2));
    first = CALL(RtlRandom)(&one);
    CHECK(first < 0x7FFFFFFF && first == CALL(RtlRandom)(&two) && one == two && one != 1);
    CHECK(CALL(RtlRandomEx)(&one) < 0x7FFFFFFF && one != two);
    one = 1;
    /* The documented formula: seed * 7FFFFFED + 7FFFFFC3, modulo 2^31 - 1. */
    CHECK_NUMBER((0x7FFFFFEDULL + 0x7FFFFFC3) % 0x7FFFFFFF, CALL(RtlUniform)(&one));
    CHECK(CALL(RtlFindLeastSignificantBit)(0x50) == 4 && CALL(RtlFindMostSignificantBit)(0x50) == 6);
    CHECK(CALL(RtlFindLeastSignificantBit)(0) == -1 && CALL(RtlFindMostSignificantBit)(1ULL << 63) == 63);
}

static ULONG Runs;

static ULONG NTAPI InitializeOnce(PRTL_RUN_ONCE Once, PVOID Parameter, PVOID *Context)
{
    (void)Once;
    Runs++;
    *Context = (PVOID)0x1000;
    return Parameter != NULL;
}

static void Once(void)
{
    RTL_RUN_ONCE once = {(PVOID)77};
    PVOID context = NULL;

    CALL(RtlRunOnceInitialize)(&once);
    CHECK(once.Ptr == NULL);
    CHECK_STATUS(STATUS_UNSUCCESSFUL, CALL(RtlRunOnceExecuteOnce)(&once, InitializeOnce, NULL, &context));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlRunOnceExecuteOnce)(&once, InitializeOnce, &once, &context));
    CHECK(context == (PVOID)0x1000);
    context = NULL;
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlRunOnceExecuteOnce)(&once, InitializeOnce, &once, &context));
    CHECK(context == (PVOID)0x1000 && Runs == 2);
    CALL(RtlRunOnceInitialize)(&once);
    CHECK_STATUS(STATUS_UNSUCCESSFUL, CALL(RtlRunOnceBeginInitialize)(&once, RTL_RUN_ONCE_CHECK_ONLY, &context));
    CHECK_STATUS(STATUS_PENDING, CALL(RtlRunOnceBeginInitialize)(&once, RTL_RUN_ONCE_ASYNC, &context));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlRunOnceComplete)(&once, RTL_RUN_ONCE_ASYNC, (PVOID)0x2000));
    CHECK_STATUS(STATUS_OBJECT_NAME_COLLISION, CALL(RtlRunOnceComplete)(&once, RTL_RUN_ONCE_ASYNC, (PVOID)0x3000));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlRunOnceBeginInitialize)(&once, 0, &context));
    CHECK(context == (PVOID)0x2000);
}

static void Bits(void)
{
    ULONG words[2] = {0, 0}, start = 77;
    RTL_BITMAP_RUN runs[2];
    RTL_BITMAP map;

    RtlInitializeBitMap(&map, words, 64);
    CALL(RtlSetBit)(&map, 33);
    CHECK(words[0] == 0 && words[1] == 2);
    CALL(RtlClearBit)(&map, 33);
    CHECK_NUMBER(0, words[1]);
    words[0] = 0xF0F00000;
    words[1] = 0xFFFFFF00;
    /* Clear: 0 to 19, 24 to 27, 32 to 39. */
    CHECK_NUMBER(2, CALL(RtlFindClearRuns)(&map, runs, 2, TRUE));
    CHECK(runs[0].StartingIndex == 0 && runs[0].NumberOfBits == 20);
    CHECK(runs[1].StartingIndex == 32 && runs[1].NumberOfBits == 8);
    CHECK_NUMBER(2, CALL(RtlFindClearRuns)(&map, runs, 2, FALSE));
    CHECK(runs[1].StartingIndex == 24 && runs[1].NumberOfBits == 4);
    CHECK_NUMBER(4, CALL(RtlFindLastBackwardRunClear)(&map, 31, &start));
    CHECK_NUMBER(24, start);
    CHECK_NUMBER(8, CALL(RtlFindLastBackwardRunClear)(&map, 63, &start));
    CHECK_NUMBER(32, start);
}

typedef struct _PAIR {
    ULONG Key;
    ULONG Value;
} PAIR;

static RTL_GENERIC_COMPARE_RESULTS NTAPI ComparePairs(PVOID Table, PVOID One, PVOID Two)
{
    ULONG one = ((PAIR *)One)->Key, two = ((PAIR *)Two)->Key;

    (void)Table;
    return one < two ? GenericLessThan : one > two ? GenericGreaterThan : GenericEqual;
}

static PVOID NTAPI Allocate(PVOID Table, CLONG Bytes)
{
    (void)Table;
    return ExAllocatePoolWithTag(NonPagedPool, Bytes, TEST_TAG);
}

static void NTAPI Free(PVOID Table, PVOID Block)
{
    (void)Table;
    ExFreePoolWithTag(Block, TEST_TAG);
}

/* Looks first and inserts then, at the place where the look has ended. Results: 0 empty, 1 found, 2 left of, 3 right of. */
#define FULL_CHECKS(Suffix, TABLE)                                                                                     \
    static void Full##Suffix(void)                                                                                     \
    {                                                                                                                  \
        TABLE table;                                                                                                   \
        BOOLEAN isNew = FALSE;                                                                                         \
        PVOID place = NULL, at;                                                                                        \
        PAIR pair, *found;                                                                                             \
        ULONG i, result = 77, last = 0;                                                                                \
                                                                                                                       \
        RtlInitializeGenericTable##Suffix(&table, (PVOID)ComparePairs, (PVOID)Allocate, (PVOID)Free, NULL);            \
        for (i = 0; i < 8; i++) {                                                                                      \
            pair.Key = 10 + i * 5 % 8;                                                                                 \
            pair.Value = i;                                                                                            \
            CHECK(CALL(RtlLookupElementGenericTableFull##Suffix)(&table, &pair, &place, &result) == NULL);             \
            CHECK(i == 0 ? result == 0 : result == 2 || result == 3);                                                  \
            found = CALL(RtlInsertElementGenericTableFull##Suffix)(&table, &pair, sizeof(pair), &isNew, place, result); \
            CHECK(isNew && found->Value == i);                                                                         \
        }                                                                                                              \
        found = CALL(RtlLookupElementGenericTableFull##Suffix)(&table, &pair, &place, &result);                        \
        CHECK(found != NULL && found->Value == 7 && result == 1);                                                      \
        at = CALL(RtlInsertElementGenericTableFull##Suffix)(&table, &pair, sizeof(pair), &isNew, place, result);       \
        CHECK(!isNew && at == found);                                                                                  \
        for (found = CALL(RtlEnumerateGenericTable##Suffix)(&table, TRUE), i = 0; found != NULL; i++) {                \
            CHECK(found->Key > last);                                                                                  \
            last = found->Key;                                                                                         \
            found = CALL(RtlEnumerateGenericTable##Suffix)(&table, FALSE);                                             \
        }                                                                                                              \
        CHECK_NUMBER(8, i);                                                                                            \
        First##Suffix(&table);                                                                                         \
        while ((found = RtlGetElementGenericTable##Suffix(&table, 0)) != NULL)                                         \
            CHECK(RtlDeleteElementGenericTable##Suffix(&table, found));                                                \
    }

static void First(PRTL_GENERIC_TABLE Table)
{
    (void)Table;
}

static void FirstAvl(PRTL_AVL_TABLE Table)
{
    PAIR pair = {13, 0}, *found;
    PVOID restart = NULL;

    found = CALL(RtlLookupFirstMatchingElementGenericTableAvl)(Table, &pair, &restart);
    CHECK(found != NULL && found->Key == 13 && restart != NULL);
    found = RtlEnumerateGenericTableWithoutSplayingAvl(Table, &restart);
    CHECK(found != NULL && found->Key == 14);
    pair.Key = 99;
    CHECK(CALL(RtlLookupFirstMatchingElementGenericTableAvl)(Table, &pair, &restart) == NULL);
}

FULL_CHECKS(, RTL_GENERIC_TABLE)
FULL_CHECKS(Avl, RTL_AVL_TABLE)

/* 0 to 6 in order, as a chain to the right of node 0. */
static RTL_SPLAY_LINKS Nodes[7];

static void Chain(void)
{
    ULONG i;

    for (i = 0; i < 7; i++) {
        RtlInitializeSplayLinks(&Nodes[i]);
        if (i > 0)
            RtlInsertAsRightChild(&Nodes[i - 1], &Nodes[i]);
    }
}

/* The nodes of a tree in order; -1 if they are not those of the mask. */
static BOOLEAN InOrder(PRTL_SPLAY_LINKS Root, ULONG Mask)
{
    PRTL_SPLAY_LINKS node = Root;
    ULONG i;

    while (node->LeftChild != NULL)
        node = node->LeftChild;
    for (i = 0; i < 7; i++) {
        if ((Mask >> i & 1) == 0)
            continue;
        if (node != &Nodes[i])
            return FALSE;
        node = CALL(RtlRealSuccessor)(node);
    }
    return node == NULL;
}

static void Splay(void)
{
    PRTL_SPLAY_LINKS root;

    Chain();
    CHECK(InOrder(&Nodes[0], 0x7F));
    root = CALL(RtlSplay)(&Nodes[5]);
    CHECK(root == &Nodes[5] && RtlIsRoot(root) && InOrder(root, 0x7F));
    CHECK(CALL(RtlRealPredecessor)(root) == &Nodes[4] && CALL(RtlRealSuccessor)(root) == &Nodes[6]);
    CHECK(CALL(RtlSubtreePredecessor)(root) == &Nodes[4] && CALL(RtlSubtreeSuccessor)(root) == &Nodes[6]);
    CHECK(CALL(RtlRealPredecessor)(&Nodes[0]) == NULL && CALL(RtlSubtreeSuccessor)(&Nodes[6]) == NULL);
    root = CALL(RtlDelete)(&Nodes[3]);
    CHECK(RtlIsRoot(root) && InOrder(root, 0x77));
    CALL(RtlDeleteNoSplay)(&Nodes[5], &root);
    CHECK(RtlIsRoot(root) && InOrder(root, 0x57));
    while (root != NULL)
        root = CALL(RtlDelete)(root);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Times();
    Small();
    Once();
    Bits();
    Full();
    FullAvl();
    Splay();
}
