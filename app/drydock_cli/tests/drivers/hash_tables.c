/* Hash tables whose entries lie in the driver's structures. */
#define FAMILY "hash_tables"
#include "check.h"

IMPORT(BOOLEAN, RtlCreateHashTable, PRTL_DYNAMIC_HASH_TABLE *, ULONG, ULONG);
IMPORT(VOID, RtlDeleteHashTable, PRTL_DYNAMIC_HASH_TABLE);
IMPORT(BOOLEAN, RtlInsertEntryHashTable, PRTL_DYNAMIC_HASH_TABLE, PRTL_DYNAMIC_HASH_TABLE_ENTRY, ULONG_PTR, PRTL_DYNAMIC_HASH_TABLE_CONTEXT);
IMPORT(BOOLEAN, RtlRemoveEntryHashTable, PRTL_DYNAMIC_HASH_TABLE, PRTL_DYNAMIC_HASH_TABLE_ENTRY, PRTL_DYNAMIC_HASH_TABLE_CONTEXT);
IMPORT(PRTL_DYNAMIC_HASH_TABLE_ENTRY, RtlLookupEntryHashTable, PRTL_DYNAMIC_HASH_TABLE, ULONG_PTR, PRTL_DYNAMIC_HASH_TABLE_CONTEXT);
IMPORT(PRTL_DYNAMIC_HASH_TABLE_ENTRY, RtlGetNextEntryHashTable, PRTL_DYNAMIC_HASH_TABLE, PRTL_DYNAMIC_HASH_TABLE_CONTEXT);
IMPORT(BOOLEAN, RtlInitEnumerationHashTable, PRTL_DYNAMIC_HASH_TABLE, PRTL_DYNAMIC_HASH_TABLE_ENUMERATOR);
IMPORT(PRTL_DYNAMIC_HASH_TABLE_ENTRY, RtlEnumerateEntryHashTable, PRTL_DYNAMIC_HASH_TABLE, PRTL_DYNAMIC_HASH_TABLE_ENUMERATOR);
IMPORT(VOID, RtlEndEnumerationHashTable, PRTL_DYNAMIC_HASH_TABLE, PRTL_DYNAMIC_HASH_TABLE_ENUMERATOR);
IMPORT(BOOLEAN, RtlExpandHashTable, PRTL_DYNAMIC_HASH_TABLE);
IMPORT(BOOLEAN, RtlContractHashTable, PRTL_DYNAMIC_HASH_TABLE);

#define ITEMS 500

typedef struct {
    RTL_DYNAMIC_HASH_TABLE_ENTRY Entry;
    ULONG Value;
    BOOLEAN Seen;
} ITEM;

static ITEM Items[ITEMS];

/* How many entries of a signature there are. */
static ULONG Count(PRTL_DYNAMIC_HASH_TABLE Table, ULONG_PTR Signature)
{
    RTL_DYNAMIC_HASH_TABLE_CONTEXT context;
    PRTL_DYNAMIC_HASH_TABLE_ENTRY entry;
    ULONG count = 0;

    RtlInitHashTableContext(&context);
    for (entry = CALL(RtlLookupEntryHashTable)(Table, Signature, &context); entry != NULL;
         entry = CALL(RtlGetNextEntryHashTable)(Table, &context)) {
        CHECK(entry->Signature == Signature);
        count++;
    }
    RtlReleaseHashTableContext(&context);
    return count;
}

static void Enumerate(PRTL_DYNAMIC_HASH_TABLE Table)
{
    RTL_DYNAMIC_HASH_TABLE_ENUMERATOR enumerator;
    PRTL_DYNAMIC_HASH_TABLE_ENTRY entry;
    ULONG i, seen = 0, twice = 0;

    for (i = 0; i < ITEMS; i++)
        Items[i].Seen = FALSE;
    CHECK(CALL(RtlInitEnumerationHashTable)(Table, &enumerator));
    CHECK_NUMBER(1, Table->NumEnumerators);
    CHECK(!CALL(RtlExpandHashTable)(Table));
    while ((entry = CALL(RtlEnumerateEntryHashTable)(Table, &enumerator)) != NULL) {
        ITEM *item = CONTAINING_RECORD(entry, ITEM, Entry);

        twice += item->Seen;
        item->Seen = TRUE;
        seen++;
        /* Every tenth goes while it is looked at. */
        if (item->Value % 10 == 0)
            CALL(RtlRemoveEntryHashTable)(Table, entry, NULL);
    }
    CALL(RtlEndEnumerationHashTable)(Table, &enumerator);
    CHECK_NUMBER(ITEMS, seen);
    CHECK_NUMBER(0, twice);
    CHECK_NUMBER(0, Table->NumEnumerators);
    CHECK_NUMBER(ITEMS - ITEMS / 10, RtlTotalEntriesHashTable(Table));
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    RTL_DYNAMIC_HASH_TABLE own;
    PRTL_DYNAMIC_HASH_TABLE table = NULL, second = &own;
    ULONG i, buckets, wrong = 0;

    (void)RegistryPath;
    CHECK(!CALL(RtlCreateHashTable)(&table, 0, 2));
    CHECK(CALL(RtlCreateHashTable)(&table, 0, 0) && table != NULL);
    CHECK(CALL(RtlCreateHashTable)(&second, 0, 0) && second == &own);
    CALL(RtlDeleteHashTable)(second);
    buckets = RtlTotalBucketsHashTable(table);
    CHECK_NUMBER(buckets, RtlEmptyBucketsHashTable(table));

    for (i = 0; i < ITEMS; i++) {
        Items[i].Value = i;
        CALL(RtlInsertEntryHashTable)(table, &Items[i].Entry, 0x1000 + i / 2 * 16, NULL);
    }
    CHECK_NUMBER(ITEMS, RtlTotalEntriesHashTable(table));
    CHECK(RtlNonEmptyBucketsHashTable(table) > buckets / 2);
    for (i = 0; i < ITEMS / 2; i++)
        wrong += Count(table, 0x1000 + i * 16) != 2;
    CHECK_NUMBER(0, wrong);
    CHECK_NUMBER(0, Count(table, 0x1001));

    CHECK(CALL(RtlExpandHashTable)(table));
    CHECK_NUMBER(2 * buckets, RtlTotalBucketsHashTable(table));
    CHECK_NUMBER(ITEMS, RtlTotalEntriesHashTable(table));
    CHECK_NUMBER(2, Count(table, 0x1000 + 7 * 16));
    CHECK(CALL(RtlContractHashTable)(table));
    CHECK_NUMBER(buckets, RtlTotalBucketsHashTable(table));
    CHECK_NUMBER(2, Count(table, 0x1000 + 7 * 16));

    Enumerate(table);
    CHECK_NUMBER(1, Count(table, 0x1000));
    for (i = 0; i < ITEMS; i++)
        if (i % 10 != 0)
            CALL(RtlRemoveEntryHashTable)(table, &Items[i].Entry, NULL);
    CHECK_NUMBER(0, RtlTotalEntriesHashTable(table));
    CHECK_NUMBER(buckets, RtlEmptyBucketsHashTable(table));
    /* A signature that is the enumerations' own. */
    CALL(RtlInsertEntryHashTable)(table, &Items[0].Entry, 0, NULL);
    CHECK(CALL(RtlLookupEntryHashTable)(table, 0, NULL) == &Items[0].Entry);
    CALL(RtlRemoveEntryHashTable)(table, &Items[0].Entry, NULL);
    CALL(RtlDeleteHashTable)(table);
}
