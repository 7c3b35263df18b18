/* ERESOURCE: shared and exclusive, again by the owner, and what another thread gets meanwhile (K-145). */
#define FAMILY "resources"
#include "check.h"

static ERESOURCE Resource;

typedef struct _TRY {
    BOOLEAN Exclusive;
    BOOLEAN Got;
} TRY;

static void NTAPI TryIt(PVOID Context)
{
    TRY *try = Context;

    KeEnterCriticalRegion();
    try->Got = try->Exclusive ? ExAcquireResourceExclusiveLite(&Resource, FALSE)
                              : ExAcquireResourceSharedLite(&Resource, FALSE);
    if (try->Got)
        ExReleaseResourceLite(&Resource);
    KeLeaveCriticalRegion();
    PsTerminateSystemThread(STATUS_SUCCESS);
}

/* Whether another thread would get it now. */
static BOOLEAN Another(BOOLEAN Exclusive)
{
    TRY try = {Exclusive, FALSE};

    Join(Start(TryIt, &try));
    return try.Got;
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    CHECK_STATUS(STATUS_SUCCESS, ExInitializeResourceLite(&Resource));
    KeEnterCriticalRegion();
    CHECK(Another(TRUE));
    CHECK(ExAcquireResourceExclusiveLite(&Resource, TRUE));
    CHECK(ExIsResourceAcquiredExclusiveLite(&Resource));
    CHECK_NUMBER(1, ExIsResourceAcquiredSharedLite(&Resource));
    CHECK(!Another(TRUE) && !Another(FALSE));
    CHECK(ExAcquireResourceExclusiveLite(&Resource, FALSE));
    CHECK(ExAcquireResourceSharedLite(&Resource, FALSE));
    ExReleaseResourceLite(&Resource);
    ExReleaseResourceLite(&Resource);
    CHECK(!Another(FALSE));
    ExConvertExclusiveToSharedLite(&Resource);
    CHECK(!ExIsResourceAcquiredExclusiveLite(&Resource));
    CHECK(Another(FALSE) && !Another(TRUE));
    CHECK(!ExAcquireResourceExclusiveLite(&Resource, FALSE));
    ExReleaseResourceLite(&Resource);
    CHECK_NUMBER(0, ExIsResourceAcquiredSharedLite(&Resource));
    CHECK(ExAcquireSharedStarveExclusive(&Resource, TRUE));
    ExReleaseResourceLite(&Resource);
    CHECK_NUMBER(0, ExGetExclusiveWaiterCount(&Resource));
    KeLeaveCriticalRegion();
    CHECK_STATUS(STATUS_SUCCESS, ExDeleteResourceLite(&Resource));
}
