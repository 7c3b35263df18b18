/* Security descriptors of new objects and of those there are (K-177). */
#define FAMILY "descriptors"
#include "check.h"

IMPORT(NTSTATUS, SeAssignSecurity, PVOID, PVOID, PVOID *, BOOLEAN, PSECURITY_SUBJECT_CONTEXT, PGENERIC_MAPPING, POOL_TYPE);
IMPORT(NTSTATUS, SeAssignSecurityEx, PVOID, PVOID, PVOID *, GUID *, BOOLEAN, ULONG, PSECURITY_SUBJECT_CONTEXT, PGENERIC_MAPPING, POOL_TYPE);
IMPORT(NTSTATUS, SeDeassignSecurity, PVOID *);
IMPORT(NTSTATUS, ObSetSecurityObjectByPointer, PVOID, SECURITY_INFORMATION, PVOID);
IMPORT(NTSTATUS, ObGetObjectSecurity, PVOID, PVOID *, PBOOLEAN);
IMPORT(VOID, ObReleaseObjectSecurity, PVOID, BOOLEAN);
IMPORT(NTSTATUS, ZwQuerySecurityObject, HANDLE, SECURITY_INFORMATION, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, NtQuerySecurityObject, HANDLE, SECURITY_INFORMATION, PVOID, ULONG, PULONG);
IMPORT(NTSTATUS, ZwSetSecurityObject, HANDLE, SECURITY_INFORMATION, PVOID);
IMPORT(NTSTATUS, NtSetSecurityObject, HANDLE, SECURITY_INFORMATION, PVOID);
IMPORT(NTSTATUS, RtlCreateAcl, PACL, ULONG, ULONG);
IMPORT(NTSTATUS, RtlAddAccessAllowedAce, PACL, ULONG, ACCESS_MASK, PSID);
IMPORT(NTSTATUS, RtlGetAce, PACL, ULONG, PVOID *);
IMPORT(NTSTATUS, RtlGetDaclSecurityDescriptor, PVOID, PBOOLEAN, PACL *, PBOOLEAN);
IMPORT(NTSTATUS, RtlGetOwnerSecurityDescriptor, PVOID, PSID *, PBOOLEAN);
IMPORT(NTSTATUS, RtlGetGroupSecurityDescriptor, PVOID, PSID *, PBOOLEAN);
IMPORT(BOOLEAN, RtlValidSecurityDescriptor, PVOID);
IMPORT(ULONG, RtlLengthSecurityDescriptor, PVOID);
IMPORT(BOOLEAN, RtlEqualSid, PSID, PSID);
IMPORT_DATA(PSE_EXPORTS, SeExports);

#define WORLD (VALUE(SeExports)->SeWorldSid)
#define SYSTEM (VALUE(SeExports)->SeLocalSystemSid)
#define ADMINISTRATORS (VALUE(SeExports)->SeAliasAdminsSid)

static GENERIC_MAPPING Mapping = {0x1, 0x2, 0x4, 0x1F};

static PSID Owner(PVOID Descriptor)
{
    PSID sid = NULL;
    BOOLEAN defaulted;

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetOwnerSecurityDescriptor)(Descriptor, &sid, &defaulted));
    return sid;
}

static PSID PrimaryGroup(PVOID Descriptor)
{
    PSID sid = NULL;
    BOOLEAN defaulted;

    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetGroupSecurityDescriptor)(Descriptor, &sid, &defaulted));
    return sid;
}

/* The mask of the list's entry, if that is for this identifier; how many entries there are. */
static ULONG Entries(PVOID Descriptor, ULONG Index, PSID Sid, ACCESS_MASK *Mask)
{
    BOOLEAN present = FALSE, defaulted;
    PACL acl = NULL;
    ACCESS_ALLOWED_ACE *ace;

    *Mask = 0;
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlGetDaclSecurityDescriptor)(Descriptor, &present, &acl, &defaulted));
    if (!present || acl == NULL)
        return 0;
    if (NT_SUCCESS(CALL(RtlGetAce)(acl, Index, (PVOID *)&ace)) && CALL(RtlEqualSid)(&ace->SidStart, Sid))
        *Mask = ace->Mask;
    return acl->AceCount;
}

static void Make(PSECURITY_DESCRIPTOR Descriptor, PACL Acl, ULONG Bytes, ACCESS_MASK Mask)
{
    RtlCreateSecurityDescriptor(Descriptor, SECURITY_DESCRIPTOR_REVISION);
    CALL(RtlCreateAcl)(Acl, Bytes, ACL_REVISION);
    CALL(RtlAddAccessAllowedAce)(Acl, ACL_REVISION, Mask, WORLD);
    RtlSetDaclSecurityDescriptor(Descriptor, TRUE, Acl, FALSE);
}

static void Assignments(void)
{
    ULONG explicitRoom[16], parentRoom[16];
    PACL own = (PACL)explicitRoom, parents = (PACL)parentRoom;
    SECURITY_DESCRIPTOR given, parent;
    SECURITY_SUBJECT_CONTEXT subject;
    ACCESS_ALLOWED_ACE *ace;
    PVOID made = NULL;
    ACCESS_MASK mask;

    SeCaptureSubjectContext(&subject);
    /* By default: the local system's token. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeAssignSecurity)(NULL, NULL, &made, FALSE, &subject, &Mapping, PagedPool));
    CHECK(CALL(RtlValidSecurityDescriptor)(made));
    CHECK(((PISECURITY_DESCRIPTOR)made)->Control & SE_SELF_RELATIVE);
    CHECK(CALL(RtlEqualSid)(Owner(made), ADMINISTRATORS) && CALL(RtlEqualSid)(PrimaryGroup(made), SYSTEM));
    CHECK_NUMBER(2, Entries(made, 0, SYSTEM, &mask));
    CHECK_NUMBER(0x1F, mask);
    Entries(made, 1, ADMINISTRATORS, &mask);
    CHECK_NUMBER(READ_CONTROL | 0x1 | 0x4, mask);
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeDeassignSecurity)(&made));
    CHECK(made == NULL);
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeDeassignSecurity)(&made));

    /* An given one, its generic rights mapped. */
    Make(&given, own, sizeof(explicitRoom), GENERIC_WRITE | DELETE);
    RtlSetOwnerSecurityDescriptor(&given, WORLD, FALSE);
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeAssignSecurity)(NULL, &given, &made, FALSE, &subject, &Mapping, PagedPool));
    CHECK(CALL(RtlEqualSid)(Owner(made), WORLD) && CALL(RtlEqualSid)(PrimaryGroup(made), SYSTEM));
    CHECK_NUMBER(1, Entries(made, 0, WORLD, &mask));
    CHECK_NUMBER(0x2 | DELETE, mask);
    CALL(SeDeassignSecurity)(&made);

    /* What the parent's list passes on, to objects only. */
    Make(&parent, parents, sizeof(parentRoom), GENERIC_READ);
    CALL(RtlGetAce)(parents, 0, (PVOID *)&ace);
    ace->Header.AceFlags = OBJECT_INHERIT_ACE;
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeAssignSecurity)(&parent, NULL, &made, FALSE, &subject, &Mapping, NonPagedPool));
    CHECK_NUMBER(1, Entries(made, 0, WORLD, &mask));
    CHECK_NUMBER(0x1, mask);
    CALL(SeDeassignSecurity)(&made);
    /* Inherited behind the given ones, if that is wanted. */
    CHECK_STATUS(STATUS_SUCCESS, CALL(SeAssignSecurityEx)(&parent, &given, &made, NULL, FALSE, 1, &subject, &Mapping, PagedPool));
    CHECK_NUMBER(2, Entries(made, 1, WORLD, &mask));
    CHECK_NUMBER(0x1, mask);
    CALL(SeDeassignSecurity)(&made);

    ((PISECURITY_DESCRIPTOR)&given)->Revision = 77;
    CHECK_STATUS(STATUS_INVALID_SECURITY_DESCR,
                 CALL(SeAssignSecurity)(NULL, &given, &made, FALSE, &subject, &Mapping, PagedPool));
    SeReleaseSubjectContext(&subject);
}

static void Objects(void)
{
    ULONG aclRoom[16], room[32], needed = 0;
    PACL acl = (PACL)aclRoom;
    SECURITY_DESCRIPTOR descriptor;
    OBJECT_ATTRIBUTES attributes;
    HANDLE handle;
    PVOID event = NULL, kept = NULL;
    BOOLEAN allocated = FALSE;
    ACCESS_MASK mask;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(&handle, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &event, NULL));

    CHECK_STATUS(STATUS_SUCCESS, CALL(ObGetObjectSecurity)(event, &kept, &allocated));
    CHECK(allocated && CALL(RtlEqualSid)(Owner(kept), ADMINISTRATORS));
    CALL(ObReleaseObjectSecurity)(kept, allocated);

    /* Part by part: what is not named stays. */
    Make(&descriptor, acl, sizeof(aclRoom), EVENT_MODIFY_STATE);
    RtlSetOwnerSecurityDescriptor(&descriptor, WORLD, FALSE);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObSetSecurityObjectByPointer)(event, DACL_SECURITY_INFORMATION, &descriptor));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ObGetObjectSecurity)(event, &kept, &allocated));
    CHECK(CALL(RtlEqualSid)(Owner(kept), ADMINISTRATORS));
    CHECK_NUMBER(1, Entries(kept, 0, WORLD, &mask));
    CHECK_NUMBER(EVENT_MODIFY_STATE, mask);
    CALL(ObReleaseObjectSecurity)(kept, allocated);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwSetSecurityObject)(handle, OWNER_SECURITY_INFORMATION, &descriptor));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(ZwQuerySecurityObject)(handle, OWNER_SECURITY_INFORMATION, room, 8, &needed));
    CHECK_NUMBER(20 + 12, needed);
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQuerySecurityObject)(handle, OWNER_SECURITY_INFORMATION, room, needed, &needed));
    CHECK(CALL(RtlEqualSid)(Owner(room), WORLD) && PrimaryGroup(room) == NULL);
    CHECK_NUMBER(needed, CALL(RtlLengthSecurityDescriptor)(room));
    CHECK_STATUS(STATUS_SUCCESS, CALL(NtQuerySecurityObject)(handle, DACL_SECURITY_INFORMATION, room, sizeof(room), &needed));
    CHECK(Owner(room) == NULL);
    CHECK_NUMBER(1, Entries(room, 0, WORLD, &mask));

    /* A part that is not there. */
    CHECK_STATUS(STATUS_INVALID_PRIMARY_GROUP, CALL(NtSetSecurityObject)(handle, GROUP_SECURITY_INFORMATION, &descriptor));
    RtlCreateSecurityDescriptor(&descriptor, SECURITY_DESCRIPTOR_REVISION);
    CHECK_STATUS(STATUS_INVALID_OWNER,
                 CALL(ObSetSecurityObjectByPointer)(event, OWNER_SECURITY_INFORMATION, &descriptor));
    CHECK_STATUS(STATUS_INVALID_SECURITY_DESCR, CALL(ZwSetSecurityObject)(handle, DACL_SECURITY_INFORMATION, NULL));
    ObDereferenceObject(event);
    ZwClose(handle);
    CHECK_STATUS(STATUS_INVALID_HANDLE, CALL(ZwQuerySecurityObject)(handle, 1, room, sizeof(room), &needed));

    /* It goes with its object: another at the same address has its own. */
    CHECK_STATUS(STATUS_SUCCESS, ZwCreateEvent(&handle, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE));
    CHECK_STATUS(STATUS_SUCCESS, CALL(ZwQuerySecurityObject)(handle, OWNER_SECURITY_INFORMATION, room, sizeof(room), &needed));
    CHECK(CALL(RtlEqualSid)(Owner(room), ADMINISTRATORS));
    ZwClose(handle);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Assignments();
    Objects();
}
