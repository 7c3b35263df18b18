/* Entries of access lists, descriptors as somebody else sends them, and privileges (K-177). */
#define FAMILY "access_lists"
#include "check.h"

IMPORT(NTSTATUS, RtlCreateAcl, PACL, ULONG, ULONG);
IMPORT(NTSTATUS, RtlAddAccessAllowedAce, PACL, ULONG, ACCESS_MASK, PSID);
IMPORT(NTSTATUS, RtlAddAccessAllowedAceEx, PACL, ULONG, ULONG, ACCESS_MASK, PSID);
IMPORT(NTSTATUS, RtlAddAce, PACL, ULONG, ULONG, PVOID, ULONG);
IMPORT(NTSTATUS, RtlDeleteAce, PACL, ULONG);
IMPORT(NTSTATUS, RtlGetAce, PACL, ULONG, PVOID *);
IMPORT(NTSTATUS, RtlAbsoluteToSelfRelativeSD, PVOID, PVOID, PULONG);
IMPORT(BOOLEAN, SeValidSecurityDescriptor, ULONG, PVOID);
IMPORT(BOOLEAN, SePrivilegeCheck, PPRIVILEGE_SET, PSECURITY_SUBJECT_CONTEXT, KPROCESSOR_MODE);
IMPORT_DATA(PSE_EXPORTS, SeExports);

#define WORLD (VALUE(SeExports)->SeWorldSid)
#define SYSTEM (VALUE(SeExports)->SeLocalSystemSid)

/* The masks of a list's entries, one digit each. */
static ULONG Masks(PACL Acl)
{
    ACCESS_ALLOWED_ACE *ace;
    ULONG masks = 0, i;

    for (i = 0; NT_SUCCESS(CALL(RtlGetAce)(Acl, i, (PVOID *)&ace)); i++)
        masks = masks * 10 + ace->Mask;
    return masks;
}

static void Entries(void)
{
    ULONG room[32], other[16];
    PACL acl = (PACL)room, source = (PACL)other;
    ACCESS_ALLOWED_ACE *ace;

    /* Each of these entries has 20 bytes. */
    CALL(RtlCreateAcl)(acl, 8 + 4 * 20, ACL_REVISION);
    CALL(RtlCreateAcl)(source, 8 + 2 * 20, ACL_REVISION);
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAddAccessAllowedAceEx)(acl, ACL_REVISION, CONTAINER_INHERIT_ACE, 1, WORLD));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlAddAccessAllowedAceEx)(acl, ACL_REVISION, 0x80, 1, WORLD));
    CALL(RtlGetAce)(acl, 0, (PVOID *)&ace);
    CHECK(ace->Header.AceType == ACCESS_ALLOWED_ACE_TYPE && ace->Header.AceFlags == CONTAINER_INHERIT_ACE);
    CALL(RtlAddAccessAllowedAce)(acl, ACL_REVISION, 2, WORLD);
    CALL(RtlAddAccessAllowedAce)(source, ACL_REVISION, 3, SYSTEM);
    CALL(RtlAddAccessAllowedAce)(source, ACL_REVISION, 4, SYSTEM);
    CALL(RtlGetAce)(source, 0, (PVOID *)&ace);
    CHECK_NUMBER(12, Masks(acl));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAddAce)(acl, ACL_REVISION, 1, ace, 40));
    CHECK_NUMBER(1342, Masks(acl));
    CHECK_STATUS(STATUS_BUFFER_TOO_SMALL, CALL(RtlAddAce)(acl, ACL_REVISION, 0, ace, 20));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlAddAce)(acl, ACL_REVISION, 0, ace, 19));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlDeleteAce)(acl, 1));
    CHECK_NUMBER(142, Masks(acl));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAddAce)(acl, ACL_REVISION, MAXULONG, ace, 20));
    CHECK_NUMBER(1423, Masks(acl));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlDeleteAce)(acl, 3));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlDeleteAce)(acl, 0));
    CHECK_NUMBER(42, Masks(acl));
    CHECK_STATUS(STATUS_INVALID_PARAMETER, CALL(RtlDeleteAce)(acl, 2));
    CHECK_NUMBER(2, acl->AceCount);
}

static void Sent(void)
{
    ULONG aclRoom[16], room[32], bytes = sizeof(room);
    SECURITY_DESCRIPTOR absolute;
    SECURITY_DESCRIPTOR_RELATIVE *sent = (PVOID)room;
    PACL acl = (PACL)aclRoom;
    ULONG kept;

    RtlCreateSecurityDescriptor(&absolute, SECURITY_DESCRIPTOR_REVISION);
    CALL(RtlCreateAcl)(acl, 8 + 20, ACL_REVISION);
    CALL(RtlAddAccessAllowedAce)(acl, ACL_REVISION, 1, WORLD);
    RtlSetDaclSecurityDescriptor(&absolute, TRUE, acl, FALSE);
    RtlSetOwnerSecurityDescriptor(&absolute, SYSTEM, FALSE);
    CHECK(!CALL(SeValidSecurityDescriptor)(sizeof(absolute), &absolute));
    CHECK_STATUS(STATUS_SUCCESS, CALL(RtlAbsoluteToSelfRelativeSD)(&absolute, room, &bytes));
    CHECK(CALL(SeValidSecurityDescriptor)(bytes, sent));
    CHECK(!CALL(SeValidSecurityDescriptor)(bytes - 1, sent) && !CALL(SeValidSecurityDescriptor)(8, sent));
    kept = sent->Owner;
    sent->Owner = bytes;
    CHECK(!CALL(SeValidSecurityDescriptor)(bytes, sent));
    sent->Owner = MAXULONG & ~3u;
    CHECK(!CALL(SeValidSecurityDescriptor)(bytes, sent));
    sent->Owner = kept;
    CHECK(CALL(SeValidSecurityDescriptor)(bytes, sent));
    ((PACL)((PUCHAR)sent + sent->Dacl))->AceCount = 2;
    CHECK(!CALL(SeValidSecurityDescriptor)(bytes, sent));
    ((PACL)((PUCHAR)sent + sent->Dacl))->AceCount = 1;
    sent->Revision = 2;
    CHECK(!CALL(SeValidSecurityDescriptor)(bytes, sent));
}

static void Privileges(void)
{
    SECURITY_SUBJECT_CONTEXT subject;
    PRIVILEGE_SET set = {1, PRIVILEGE_SET_ALL_NECESSARY, {{{SE_LOAD_DRIVER_PRIVILEGE, 0}, 0}}};

    SeCaptureSubjectContext(&subject);
    CHECK(CALL(SePrivilegeCheck)(&set, &subject, KernelMode));
    CHECK_NUMBER(0, set.Privilege[0].Attributes);
    CHECK(CALL(SePrivilegeCheck)(&set, &subject, UserMode));
    CHECK_NUMBER(SE_PRIVILEGE_USED_FOR_ACCESS, set.Privilege[0].Attributes);
    SeReleaseSubjectContext(&subject);
}

static void Checks(PUNICODE_STRING RegistryPath)
{
    (void)RegistryPath;
    Entries();
    Sent();
    Privileges();
}
