/*
 * Generic tables, splay and balanced (K-200). By number, a splay table gives elements in the order in which they came, a
 * balanced one in order of keys.
 */
#define FAMILY "tables"
#include "check.h"

typedef struct _PAIR {
    ULONG Key;
    ULONG Value;
} PAIR;

static LONG Blocks;

static RTL_GENERIC_COMPARE_RESULTS NTAPI Compare(PRTL_GENERIC_TABLE Table, PVOID One, PVOID Two)
{
    ULONG one = ((PAIR *)One)->Key, two = ((PAIR *)Two)->Key;

    (void)Table;
    return one < two ? GenericLessThan : one > two ? GenericGreaterThan : GenericEqual;
}

static PVOID NTAPI Allocate(PRTL_GENERIC_TABLE Table, CLONG Bytes)
{
    (void)Table;
    Blocks++;
    return ExAllocatePoolWithTag(NonPagedPool, Bytes, TEST_TAG);
}

static void NTAPI Free(PRTL_GENERIC_TABLE Table, PVOID Block)
{
    (void)Table;
    Blocks--;
    ExFreePoolWithTag(Block, TEST_TAG);
}

/* The two kinds have the same functions under two names and differ by their table and routines' types. */
#define CHECKS_OF(Suffix, TABLE, THIRD)                                                                                \
    static void Table##Suffix(void)                                                                                    \
    {                                                                                                                  \
        static const ULONG Keys[] = {50, 20, 80, 10, 30, 70, 90, 60, 40};                                              \
        TABLE table;                                                                                                   \
        BOOLEAN isNew;                                                                                                 \
        PAIR pair, *found;                                                                                             \
        PVOID restart = NULL;                                                                                          \
        ULONG i, last = 0, count = 0;                                                                                  \
                                                                                                                       \
        RtlInitializeGenericTable##Suffix(&table, (PVOID)Compare, (PVOID)Allocate, (PVOID)Free, NULL);                 \
        CHECK(RtlIsGenericTableEmpty##Suffix(&table));                                                                 \
        for (i = 0; i < 9; i++) {                                                                                      \
            pair.Key = Keys[i];                                                                                        \
            pair.Value = i;                                                                                            \
            found = RtlInsertElementGenericTable##Suffix(&table, &pair, sizeof(pair), &isNew);                         \
            CHECK(isNew && found != &pair && found->Value == i);                                                       \
        }                                                                                                              \
        found = RtlInsertElementGenericTable##Suffix(&table, &pair, sizeof(pair), &isNew);                             \
        CHECK(!isNew && found->Value == 8);                                                                            \
        CHECK_NUMBER(9, RtlNumberGenericTableElements##Suffix(&table));                                                \
        CHECK_NUMBER(9, Blocks);                                                                                       \
        while ((found = RtlEnumerateGenericTableWithoutSplaying##Suffix(&table, &restart)) != NULL) {                  \
            CHECK(found->Key > last);                                                                                  \
            last = found->Key;                                                                                         \
            count++;                                                                                                   \
        }                                                                                                              \
        CHECK_NUMBER(9, count);                                                                                        \
        found = RtlGetElementGenericTable##Suffix(&table, 2);                                                          \
        CHECK_NUMBER(THIRD, found->Key);                                                                               \
        pair.Key = 70;                                                                                                 \
        found = RtlLookupElementGenericTable##Suffix(&table, &pair);                                                   \
        CHECK(found != NULL && found->Value == 5);                                                                     \
        CHECK(RtlDeleteElementGenericTable##Suffix(&table, &pair));                                                    \
        CHECK(!RtlDeleteElementGenericTable##Suffix(&table, &pair));                                                   \
        CHECK(RtlLookupElementGenericTable##Suffix(&table, &pair) == NULL);                                            \
        while ((found = RtlGetElementGenericTable##Suffix(&table, 0)) != NULL)                                         \
            CHECK(RtlDeleteElementGenericTable##Suffix(&table, found));                                                \
        CHECK(RtlIsGenericTableEmpty##Suffix(&table));                                                                 \
        CHECK_NUMBER(0, Blocks);                                                                                       \
    }

CHECKS_OF(, RTL_GENERIC_TABLE, 80)
CHECKS_OF(Avl, RTL_AVL_TABLE, 30)

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Table();
    TableAvl();
}
